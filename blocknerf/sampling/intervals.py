"""Sampling of bin edges along rays, uniform or from a histogram."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling import sample_pdf as invert_histogram


def uniform_bins(
    rays: int, bins: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, "rays edges"]:
    """Return evenly spaced bin edges on [0, 1]; with a generator, one random shift per ray moves the inner edges."""
    edges = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, bins + 1)
    if generator is None:
        return edges.contiguous()
    shift = torch.rand(rays, 1, generator=generator, device=device) - 0.5
    shifted = edges + shift / bins
    shifted[:, 0], shifted[:, -1] = 0.0, 1.0
    return shifted


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    bins: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "rays finer"]:
    """Draw bin edges from a histogram by stratified inverse transform sampling, with one jitter per ray.

    `edges` has one more column than `weights`; the result has `bins + 1` sorted columns within them.
    """
    if generator is None:
        jitter = edges.new_full((len(edges),), 0.5)
    else:
        jitter = torch.rand(len(edges), 1, generator=generator, device=edges.device, dtype=edges.dtype)[:, 0]
    return invert_histogram(edges, weights, jitter, bins, HISTOGRAM_PADDING)
