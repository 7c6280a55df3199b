"""Ray marching through a block's networks, for rendering."""

from blocknerf.kernels.marching.api import MIN_TRANSMITTANCE, FieldParams, march

__all__ = ["MIN_TRANSMITTANCE", "FieldParams", "march"]
