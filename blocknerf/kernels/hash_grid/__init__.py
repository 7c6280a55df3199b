"""Multiresolution hash-grid encoding of points."""

from blocknerf.kernels.hash_grid.api import encode, level_weights, level_weights_on_device, unfit_grid
from blocknerf.kernels.hash_grid.spec import GridSpec

__all__ = ["GridSpec", "encode", "level_weights", "level_weights_on_device", "unfit_grid"]
