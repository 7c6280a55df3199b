"""Histograms along rays: where the next, finer samples go."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling import sample_pdf as invert_histogram


def uniform_bins(
    rays: int, bins: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, "rays edges"]:
    """Evenly spaced bin edges on [0, 1]; with a generator, the inner edges shift by one random part of a bin a ray."""
    edges = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, bins + 1)
    if generator is None:
        return edges.contiguous()
    shift = torch.rand(rays, 1, generator=generator, device=device) - 0.5
    moved = edges + shift / bins
    moved[:, 0], moved[:, -1] = 0.0, 1.0
    return moved


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    bins: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "rays finer"]:
    """Bin edges drawn from a histogram by inverse transform sampling, stratified, one jitter a ray.

    `edges` has one more column than `weights`; the result has `bins + 1` sorted columns within them.
    """
    if generator is None:
        jitter = edges.new_full((len(edges),), 0.5)
    else:
        jitter = torch.rand(len(edges), 1, generator=generator, device=edges.device, dtype=edges.dtype)[:, 0]
    return invert_histogram(edges, weights, jitter, bins, HISTOGRAM_PADDING)
