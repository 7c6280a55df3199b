"""Small fully connected networks."""

from blocknerf.kernels.mlp.network import mlp

__all__ = ["mlp"]
