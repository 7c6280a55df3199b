"""Losses on the histograms of weight along rays."""

from blocknerf.kernels.histograms.losses import distortion, interlevel

__all__ = ["distortion", "interlevel"]
