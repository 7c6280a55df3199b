"""Rays followed front to back through the networks of a block, for pictures."""

from blocknerf.kernels.marching.network import RadianceNetwork
from blocknerf.kernels.marching.rays import march

__all__ = ["RadianceNetwork", "march"]
