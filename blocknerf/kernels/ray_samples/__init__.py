"""World positions of sample intervals along rays."""

from blocknerf.kernels.ray_samples.api import RaySamples, make_ray_samples

__all__ = ["RaySamples", "make_ray_samples"]
