"""Inverse transform sampling of finer samples along rays."""

from blocknerf.kernels.pdf_sampling.api import HISTOGRAM_PADDING, sample_pdf

__all__ = ["HISTOGRAM_PADDING", "sample_pdf"]
