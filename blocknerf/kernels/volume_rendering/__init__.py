"""Volume rendering: densities along rays to weights, weights to colors."""

from blocknerf.kernels.volume_rendering.api import composite, weights_from_density

__all__ = ["composite", "weights_from_density"]
