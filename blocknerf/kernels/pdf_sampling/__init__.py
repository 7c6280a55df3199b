"""Where along each ray the next, finer samples go."""

from blocknerf.kernels.pdf_sampling.api import HISTOGRAM_PADDING, sample_pdf

__all__ = ["HISTOGRAM_PADDING", "sample_pdf"]
