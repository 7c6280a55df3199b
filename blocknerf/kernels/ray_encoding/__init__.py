"""Per-ray inputs of the color network: encoded direction and appearance code."""

from blocknerf.kernels.ray_encoding.api import encode_directions, encode_ray_inputs
from blocknerf.kernels.ray_encoding.torch_impl import DIRECTION_FEATURES

__all__ = ["DIRECTION_FEATURES", "encode_directions", "encode_ray_inputs"]
