"""Losses on weight histograms along rays."""

from blocknerf.kernels.ray_losses.api import distortion, interlevel

__all__ = ["distortion", "interlevel"]
