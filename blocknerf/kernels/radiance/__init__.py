"""Density and color of points as one operation: a hash grid and two small MLPs."""

from blocknerf.kernels.radiance.api import (
    DENSITY_LIMIT,
    DENSITY_SHIFT,
    ColorParams,
    HashGridParams,
    grid_network,
    radiance,
    unfit,
)
from blocknerf.kernels.radiance.torch_impl import scale_gradient, trunc_exp_density

__all__ = [
    "DENSITY_LIMIT",
    "DENSITY_SHIFT",
    "ColorParams",
    "HashGridParams",
    "grid_network",
    "radiance",
    "scale_gradient",
    "trunc_exp_density",
    "unfit",
]
