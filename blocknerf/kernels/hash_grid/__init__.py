"""Multiresolution hash-grid encoding of points."""

from blocknerf.kernels.hash_grid.encoding import encode, level_gains
from blocknerf.kernels.hash_grid.spec import GridSpec

__all__ = ["GridSpec", "encode", "level_gains"]
