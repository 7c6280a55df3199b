"""Ray losses in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-5
"""Bounds the relative error of weights near zero."""


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """Return the squared shortfall of the proposal's weight over each fine bin, relative to the bin's weight."""
    total = torch.nn.functional.pad(torch.cumsum(proposal_weights, -1), (1, 0))
    bins = proposal_weights.shape[-1]
    starts, ends = fine_edges[:, :-1].contiguous(), fine_edges[:, 1:].contiguous()
    first = (torch.searchsorted(proposal_edges, starts, right=True) - 1).clamp(0, bins)
    last = torch.searchsorted(proposal_edges, ends).clamp(0, bins)
    bound = total.gather(-1, last) - total.gather(-1, first)
    return ((fine_weights - bound).clamp_min(0.0).square() / (fine_weights + FLOOR)).sum(-1).mean()


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """Return the mean distance between two points drawn by the weights."""
    mids, widths = 0.5 * (edges[:, 1:] + edges[:, :-1]), edges[:, 1:] - edges[:, :-1]
    moment = weights * mids
    weight_before = torch.cumsum(weights, -1) - weights
    moment_before = torch.cumsum(moment, -1) - moment
    between_bins = 2.0 * (moment * weight_before - weights * moment_before).sum(-1)
    within_bins = (weights.square() * widths).sum(-1) / 3.0
    return (between_bins + within_bins).mean()
