"""A step of the Adam optimizer that leaves untouched entries alone."""

from blocknerf.kernels.adam.api import adam_step

__all__ = ["adam_step"]
