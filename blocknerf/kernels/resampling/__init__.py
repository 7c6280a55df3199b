"""Where along each ray the next, finer samples go."""

from blocknerf.kernels.resampling.inverse import resample

__all__ = ["resample"]
