"""Small fully connected networks."""

from blocknerf.kernels.mlp.api import mlp

__all__ = ["mlp"]
