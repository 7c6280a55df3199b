"""Rays followed front to back through the networks of a block, for pictures."""

from blocknerf.kernels.marching.api import march
from blocknerf.kernels.marching.params import FieldParams

__all__ = ["FieldParams", "march"]
