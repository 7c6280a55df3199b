"""What the colors along a ray depend on beside its points: its direction, an appearance code, an exposure."""

from blocknerf.kernels.ray_encoding.api import EXPOSURE_FEATURES, encode_directions, encode_ray_inputs
from blocknerf.kernels.ray_encoding.torch_impl import DIRECTION_FEATURES

__all__ = ["DIRECTION_FEATURES", "EXPOSURE_FEATURES", "encode_directions", "encode_ray_inputs"]
