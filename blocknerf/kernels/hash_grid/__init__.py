"""Multiresolution hash-grid encoding of points."""

from blocknerf.kernels.hash_grid.api import encode
from blocknerf.kernels.hash_grid.spec import GridSpec, level_weights, level_weights_on_device, unfit_grid

__all__ = ["GridSpec", "encode", "level_weights", "level_weights_on_device", "unfit_grid"]
