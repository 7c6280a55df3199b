"""Inverse transform sampling of histograms along rays."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation

HISTOGRAM_PADDING = 0.01
"""Weight added evenly to the bins of a ray, so that every part of it can get samples."""


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
    backend: Backend = "auto",
) -> Float[Tensor, "rays finer"]:
    """Return bin edges drawn from a histogram by stratified inverse transform sampling, without gradients.

    `edges` is sorted and has one more column than `weights`. The result has `bins + 1` sorted columns within them,
    at the quantiles (column + jitter) / (bins + 1) of the ray's weight. `padding` is distributed evenly over the
    bins, so that every part of a ray gets samples.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    implementation = find_implementation("pdf_sampling", backend, edges, weights, jitter)
    return implementation.sample_pdf(edges.detach(), weights.detach(), jitter, bins, padding)
