"""Density and color of points as one operation: a hash grid and two small MLPs."""

from blocknerf.kernels.radiance.api import grid_network, radiance
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT, ColorParams, HashGridParams, unfit

__all__ = ["DENSITY_LIMIT", "DENSITY_SHIFT", "ColorParams", "HashGridParams", "grid_network", "radiance", "unfit"]
