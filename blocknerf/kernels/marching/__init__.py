"""Ray marching through a block's networks, for rendering."""

from blocknerf.kernels.marching.api import MIN_TRANSMITTANCE, FieldParams, march
from blocknerf.kernels.marching.footprints import raise_std

__all__ = ["MIN_TRANSMITTANCE", "FieldParams", "march", "raise_std"]
