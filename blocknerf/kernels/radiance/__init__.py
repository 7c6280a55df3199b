"""Density and color of points: hash-grid features through small networks, as one operation."""

from blocknerf.kernels.radiance.api import grid_network, radiance
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT, ColorParams, HashGridParams, unfit

__all__ = ["DENSITY_LIMIT", "DENSITY_SHIFT", "ColorParams", "HashGridParams", "grid_network", "radiance", "unfit"]
