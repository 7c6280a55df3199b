"""Multiresolution hash-grid encoding of points."""

from blocknerf.kernels.hash_grid.encoding import encode, gains_on_device, level_gains, unfit_grid
from blocknerf.kernels.hash_grid.spec import GridSpec

__all__ = ["GridSpec", "encode", "gains_on_device", "level_gains", "unfit_grid"]
