"""Where along each ray the next, finer samples go."""

from blocknerf.kernels.resampling.inverse import PADDING, resample

__all__ = ["PADDING", "resample"]
