"""The shape of a multiresolution hash grid, the layout of its table and the weights of its levels."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """A multiresolution hash grid (Mueller et al. 2022) in tiny-cuda-nn's layout, the same for every backend.

    Level l has scale `base_resolution * per_level_scale^l - 1` and resolution `ceil(scale) + 1`. A point x of the unit
    cube is at `x * scale + 0.5` in it. A level is dense (x fastest) if `resolution^3` fits `2^log2_hashmap_size`, else
    hashed.

    >>> GridSpec(num_levels=2, features_per_level=4, log2_hashmap_size=12, base_resolution=4, max_resolution=32).offsets
    (0, 64, 4160)
    """

    num_levels: int
    features_per_level: int
    log2_hashmap_size: int
    base_resolution: int
    max_resolution: int

    def __post_init__(self) -> None:
        positive = (self.num_levels, self.features_per_level, self.log2_hashmap_size, self.base_resolution)
        if min(positive) < 1 or self.log2_hashmap_size > 28 or self.max_resolution < self.base_resolution:
            raise ValueError(f"{self}: counts must be >= 1, log2_hashmap_size <= 28, max_resolution >= base_resolution")

    @property
    def per_level_scale(self) -> float:
        """Growth factor of the resolution from level to level."""
        if self.num_levels == 1:
            return 1.0
        return math.exp(math.log(self.max_resolution / self.base_resolution) / (self.num_levels - 1))

    @property
    def scales(self) -> tuple[float, ...]:
        """Cells along the cube's edge, per level. Rounded to float32, so that all backends and dtypes use the same."""
        return tuple(
            float(np.float32(self.base_resolution * self.per_level_scale**level - 1.0))
            for level in range(self.num_levels)
        )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Grid points along the cube's edge, per level."""
        return tuple(math.ceil(scale) + 1 for scale in self.scales)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first entry of each level, and last the total number of entries."""
        offsets = [0]
        for resolution in self.resolutions:
            offsets.append(offsets[-1] + min(-(-(resolution**3) // 8) * 8, 1 << self.log2_hashmap_size))
        return tuple(offsets)

    @property
    def num_entries(self) -> int:
        """Number of entries of the table."""
        return self.offsets[-1]

    @property
    def hashed(self) -> tuple[bool, ...]:
        """Whether each level is hashed."""
        sizes = (after - before for before, after in zip(self.offsets, self.offsets[1:], strict=False))
        return tuple(resolution**3 > size for resolution, size in zip(self.resolutions, sizes, strict=True))

    @property
    def output_dim(self) -> int:
        """Size of an encoded point: the features of level 0, of level 1, and so on."""
        return self.num_levels * self.features_per_level


def unfit_grid(spec: GridSpec) -> dict[str, str]:
    """Return what exceeds a backend's `backends.LIMITS`, by backend."""
    supported = {"triton": (2, 4), "tcnn": (1, 2, 4, 8)}
    return {
        name: f"{spec.features_per_level} features per entry"
        for name in supported
        if spec.features_per_level not in supported[name]
    }


def check_table(table: Tensor, spec: GridSpec) -> None:
    """Check the shape of a table.

    Raises:
        ValueError: The table does not have the shape of the spec.
    """
    if table.shape != (spec.num_entries, spec.features_per_level):
        expected = spec.num_entries, spec.features_per_level
        raise ValueError(f"hash grid: table is {tuple(table.shape)}, but the spec needs {expected}")


def level_weights(levels: int, active_levels: float | Tensor | None) -> tuple[float, ...]:
    """Return the weight of each level if `active_levels` are on, the last one partly (BARF, Lin et al. 2021, eq. 14).

    >>> level_weights(3, 1.5)
    (1.0, 0.5, 0.0)
    """
    if active_levels is None:
        return (1.0,) * levels
    fractions = (min(max(float(active_levels) - level, 0.0), 1.0) for level in range(levels))
    return tuple(round(0.5 - 0.5 * math.cos(math.pi * fraction), 12) for fraction in fractions)


def level_weights_on_device(
    spec: GridSpec, active_levels: float | Tensor | None, like: Tensor
) -> Float[Tensor, "levels"] | None:
    """Return `level_weights` on the device of `like`, without synchronizing; None if all are one."""
    if active_levels is None:
        return None
    levels = torch.arange(spec.num_levels, device=like.device, dtype=torch.float32)
    return 0.5 - 0.5 * torch.cos(torch.pi * (active_levels - levels).clamp(0.0, 1.0))
