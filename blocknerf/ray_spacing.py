"""Mapping between distance t along a ray and normalized position s."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySpacing:
    """A monotone map between normalized position s in [0, 1] and distance t along the ray.

    Linear in distance up to `linear_until`, linear in inverse distance beyond it (mip-NeRF 360's spacing with the
    piecewise map of later hash-grid fields). Half of the samples cover the block itself, half everything behind it.
    Lengths are in world units.
    """

    near: float
    far: float
    linear_until: float

    def s_to_t(self, s: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Convert normalized positions to distances.

        >>> RaySpacing(near=0.0, far=1e9, linear_until=10.0).s_to_t(torch.tensor([0.0, 0.25, 0.5, 0.75]))
        tensor([ 0.,  5., 10., 20.])
        """
        low, high = self.s_range
        squashed = s * (high - low) + low
        return self.linear_until * torch.where(squashed < 0.5, 2.0 * squashed, 0.5 / (1.0 - squashed).clamp_min(1e-9))

    def t_to_s(self, distance: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Convert distances to normalized positions; the inverse of `s_to_t`, clamped to [0, 1]."""
        low, high = self.s_range
        return ((_squash(distance / self.linear_until) - low) / (high - low)).clamp(0.0, 1.0)

    @property
    def s_range(self) -> tuple[float, float]:
        """Near and far end on the scale on which samples are uniform: 0.5 at `linear_until`, 1 at infinity."""
        ratios = (self.near / self.linear_until, self.far / self.linear_until)
        low, high = (0.5 * ratio if ratio < 1.0 else 1.0 - 0.5 / ratio for ratio in ratios)
        return low, high


def _squash(ratio: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return torch.where(ratio < 1.0, 0.5 * ratio, 1.0 - 0.5 / ratio.clamp_min(1.0))
