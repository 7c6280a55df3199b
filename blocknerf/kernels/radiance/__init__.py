"""Density and color of points: hash-grid features through small networks, as one operation."""

from blocknerf.kernels.radiance.layers import DENSITY_LIMIT, DENSITY_SHIFT, ColorLayers, GridLayers, unfit
from blocknerf.kernels.radiance.samples import grid_network, radiance

__all__ = ["DENSITY_LIMIT", "DENSITY_SHIFT", "ColorLayers", "GridLayers", "grid_network", "radiance", "unfit"]
