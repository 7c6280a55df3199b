"""Small multilayer perceptrons."""

from blocknerf.kernels.mlp.api import mlp

__all__ = ["mlp"]
