"""What the colors along a ray depend on beside its points: its direction, an appearance code, an exposure."""

from blocknerf.kernels.conditions.reference import DIRECTION_FEATURES
from blocknerf.kernels.conditions.rows import EXPOSURE_FEATURES, encode_directions, encode_rays

__all__ = ["DIRECTION_FEATURES", "EXPOSURE_FEATURES", "encode_directions", "encode_rays"]
