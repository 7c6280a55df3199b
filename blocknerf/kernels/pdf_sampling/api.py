"""Inverse transform sampling of histograms along rays, with the backend chosen."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, choose
from blocknerf.kernels.pdf_sampling import torch_impl

HISTOGRAM_PADDING = 0.01
"""Weight spread evenly over all bins of a ray, so that no part of it is ever cut off from samples."""


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
    backend: Backend = "auto",
) -> Float[Tensor, "rays finer"]:
    """Bin edges drawn from a histogram by inverse transform sampling, stratified, without gradients.

    `edges` is sorted and has one more column than `weights`; the result has `bins + 1` sorted columns within them,
    at the shares (column + jitter) / (bins + 1) of the ray's weight. `padding` is spread evenly over the bins, so
    that every part of a ray gets samples.

    Raises:
        BackendError: the backend asked for cannot be used here.
    """
    chosen = choose("pdf_sampling", backend, edges, weights, jitter)
    if chosen == "triton":
        from blocknerf.kernels.pdf_sampling import triton_impl

        return triton_impl.sample_pdf(edges.detach(), weights.detach(), jitter, bins, padding)
    if chosen == "numba":
        from blocknerf.kernels.pdf_sampling import numba_impl

        return numba_impl.sample_pdf(edges.detach(), weights.detach(), jitter, bins, padding)
    return torch_impl.sample_pdf(edges.detach(), weights.detach(), jitter, bins, padding)
