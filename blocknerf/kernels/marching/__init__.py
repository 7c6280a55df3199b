"""Ray marching through a block's networks, for rendering."""

from blocknerf.kernels.marching.api import march
from blocknerf.kernels.marching.params import FieldParams

__all__ = ["FieldParams", "march"]
