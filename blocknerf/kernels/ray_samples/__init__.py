"""Where intervals along rays lie in the world."""

from blocknerf.kernels.ray_samples.api import RaySamples, make_ray_samples

__all__ = ["RaySamples", "make_ray_samples"]
