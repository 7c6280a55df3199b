"""Histogram losses in plain PyTorch: any device, any floating type; the definition the other backend is held to."""

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-5
"""Keeps the relative error of weights near zero bounded."""


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """Squared shortfall of the weight that the proposal's bins around each fine bin hold, relative to the bin's."""
    total = torch.nn.functional.pad(torch.cumsum(proposal_weights, -1), (1, 0))
    bins = proposal_weights.shape[-1]
    starts, ends = fine_edges[:, :-1].contiguous(), fine_edges[:, 1:].contiguous()
    first = (torch.searchsorted(proposal_edges, starts, right=True) - 1).clamp(0, bins)
    last = torch.searchsorted(proposal_edges, ends).clamp(0, bins)
    bound = total.gather(-1, last) - total.gather(-1, first)
    return ((fine_weights - bound).clamp_min(0.0).square() / (fine_weights + FLOOR)).sum(-1).mean()


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """Mean distance between two points drawn by the weights."""
    middles, widths = 0.5 * (edges[:, 1:] + edges[:, :-1]), edges[:, 1:] - edges[:, :-1]
    moment = weights * middles
    before = torch.cumsum(weights, -1) - weights
    moment_before = torch.cumsum(moment, -1) - moment
    pairs = 2.0 * (moment * before - weights * moment_before).sum(-1)
    alone = (weights.square() * widths).sum(-1) / 3.0
    return (pairs + alone).mean()
