"""Rigid transforms, the contraction of unbounded space, and the spacing of samples along rays."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def contract(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Map all of space into the cube [-2, 2]^3, with [-1, 1]^3 unchanged.

    The contraction of mip-NeRF 360 (Barron et al. 2022, eq. 10) in the L-infinity norm: the contracted space is a
    cube, which a grid covers without waste.

    >>> contract(torch.tensor([[0.5, 0.0, 0.0], [4.0, 0.0, 2.0]]))
    tensor([[0.5000, 0.0000, 0.0000],
            [1.7500, 0.0000, 0.8750]])
    """
    size = points.abs().amax(dim=-1, keepdim=True).clamp_min(1.0)
    return points * ((2.0 - 1.0 / size) / size)


def uncontract(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Invert `contract`; points on the boundary of [-2, 2]^3 map to a very large but finite distance."""
    size = points.abs().amax(dim=-1, keepdim=True).clamp(1.0, 2.0 - 1e-6)
    return points / (size * (2.0 - size))


def skew(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return cross-product matrices: `skew(a) @ b == a x b`."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return torch.stack(rows, -2)


def se3_exp(tangents: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 4"]:
    """Return rigid transforms from their tangents (translation part, then rotation vector in radians).

    A series near zero rotation keeps values and gradients finite at the identity. It is used up to 0.1 rad: below,
    1 - cos cancels in single precision and loses the gradient; above, the series becomes inaccurate.
    """
    translation, rotation = tangents[..., :3], tangents[..., 3:]
    squared = (rotation * rotation).sum(-1)[..., None, None]
    small = squared < 1e-2
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)), angle.sin() / angle)
    versine = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30 * (1 - squared / 56)), (1 - angle.cos()) / safe)
    series = 1 / 6 - squared / 120 * (1 - squared / 42 * (1 - squared / 72))
    third = torch.where(small, series, (angle - angle.sin()) / (safe * angle))
    cross = skew(rotation)
    cross2 = cross @ cross
    identity = torch.eye(3, dtype=tangents.dtype, device=tangents.device)
    rotation_matrix = identity + sine * cross + versine * cross2
    left_jacobian = identity + versine * cross + third * cross2
    return torch.cat([rotation_matrix, left_jacobian @ translation[..., None]], dim=-1)


def compose(first: Float[Tensor, "*batch 3 4"], second: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """Return the rigid transform that applies `second`, then `first` (their matrix product)."""
    rotation = first[..., :3] @ second[..., :3]
    translation = first[..., :3] @ second[..., 3:] + first[..., 3:]
    return torch.cat([rotation, translation], dim=-1)


def invert(motion: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """Return the inverse rigid transform."""
    rotation = motion[..., :3].transpose(-1, -2)
    return torch.cat([rotation, -rotation @ motion[..., 3:]], dim=-1)


def is_rigid(motions: Float[Tensor, "*batch 3 4"], tolerance: float = 1e-3) -> Bool[Tensor, "*batch"]:
    """Return whether each transform is finite, orthonormal and right-handed within `tolerance`."""
    rotation = motions[..., :3]
    identity = torch.eye(3, dtype=motions.dtype, device=motions.device)
    orthonormal = ((rotation @ rotation.transpose(-1, -2) - identity).abs() < tolerance).all(-1).all(-1)
    finite = motions.isfinite().all(-1).all(-1)
    right_handed = torch.linalg.det(torch.nan_to_num(rotation, 0.0, 0.0, 0.0)) > 0
    return finite & orthonormal & right_handed


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
