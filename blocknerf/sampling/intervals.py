"""Histograms along rays: where the next, finer samples go."""

import torch
from jaxtyping import Float
from torch import Tensor

PADDING = 0.01
"""Weight spread evenly over all bins, so that no part of a ray is ever cut off from samples."""


def uniform_edges(
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


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    bins: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "rays finer"]:
    """Bin edges drawn from a histogram by inverse transform sampling, stratified, one jitter a ray.

    `edges` has one more column than `weights`; the result has `bins + 1` sorted columns within them.
    """
    padded = weights + PADDING / weights.shape[-1]
    cumulative = torch.cumsum(padded, dim=-1)
    cumulative = torch.nn.functional.pad(cumulative / cumulative[:, -1:], (1, 0))
    step = 1.0 / (bins + 1)
    u = (torch.arange(bins + 1, device=edges.device, dtype=edges.dtype) * step).expand(len(edges), bins + 1)
    if generator is None:
        u = u + 0.5 * step
    else:
        u = u + step * torch.rand(len(edges), 1, generator=generator, device=edges.device, dtype=edges.dtype)
    return _invert(edges, cumulative, u.contiguous())


def _invert(
    edges: Float[Tensor, "rays edges"], cumulative: Float[Tensor, "rays edges"], u: Float[Tensor, "rays finer"]
) -> Float[Tensor, "rays finer"]:
    above = torch.searchsorted(cumulative, u, right=True).clamp(1, edges.shape[-1] - 1)
    below = above - 1
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    share = ((u - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
    return start + share * (end - start)
