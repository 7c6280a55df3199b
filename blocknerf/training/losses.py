"""The terms of the training loss, one pure function each."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.sampling.proposal import Histogram


def photometric(color: Float[Tensor, "rays 3"], target: Float[Tensor, "rays 3"]) -> Float[Tensor, ""]:
    """Mean squared color error."""
    return (color - target).square().mean()


def interlevel(fine: Histogram, proposal: Histogram) -> Float[Tensor, ""]:
    """How far a proposal histogram falls short of bounding the field's weights (mip-NeRF 360, eq. 13).

    Gradients reach the proposal only: the fine weights are taken as given.
    """
    edges, weights = fine.edges.detach(), fine.weights.detach()
    total = torch.nn.functional.pad(torch.cumsum(proposal.weights, -1), (1, 0))
    bins = proposal.weights.shape[-1]
    first = (torch.searchsorted(proposal.edges, edges[:, :-1].contiguous(), right=True) - 1).clamp(0, bins)
    last = torch.searchsorted(proposal.edges, edges[:, 1:].contiguous()).clamp(0, bins)
    bound = total.gather(-1, last) - total.gather(-1, first)
    return ((weights - bound).clamp_min(0.0).square() / (weights + 1e-5)).sum(-1).mean()


def distortion(histogram: Histogram) -> Float[Tensor, ""]:
    """Spread of the weights along each ray, which pulls them together (mip-NeRF 360, eq. 15), in linear time."""
    edges, weights = histogram.edges, histogram.weights
    middles, widths = 0.5 * (edges[:, 1:] + edges[:, :-1]), edges[:, 1:] - edges[:, :-1]
    moment = weights * middles
    before = torch.cumsum(weights, -1) - weights
    moment_before = torch.cumsum(moment, -1) - moment
    pairs = 2.0 * (moment * before - weights * moment_before).sum(-1)
    alone = (weights.square() * widths).sum(-1) / 3.0
    return (pairs + alone).mean()


def visibility(
    predicted: Float[Tensor, "rays samples"], transmittance: Float[Tensor, "rays samples"]
) -> Float[Tensor, ""]:
    """Squared error of the predicted transmittance; the field is not moved (Tancik et al. 2022, section 4.2.2)."""
    return (predicted - transmittance.detach()).square().mean()


def line_of_sight(
    weights: Float[Tensor, "rays samples"],
    middles: Float[Tensor, "rays samples"],
    depth: Float[Tensor, "rays"],
    tolerance: Float[Tensor, "rays"],
) -> Float[Tensor, ""]:
    """Rays with a measured depth end there and pass freely before (after Rematas et al. 2022, eqs. 13 to 15).

    `tolerance` is the half-width, in world units, of the shell around the depth in which the weight may lie.
    """
    before = middles < (depth - tolerance)[:, None]
    within = (middles - depth[:, None]).abs() <= tolerance[:, None]
    empty = (weights * before).sum(-1).square()
    hit = (1.0 - (weights * within).sum(-1)).square()
    # A ray none of whose samples fell into the shell says nothing about what the shell should hold.
    return (empty + hit * within.any(-1)).mean()


def expected_depth(
    depth: Float[Tensor, "rays"], target: Float[Tensor, "rays"], opacity: Float[Tensor, "rays"]
) -> Float[Tensor, ""]:
    """Error of the rendered depth relative to the measured one, bounded so that outliers cannot rule."""
    relative = (depth - target).abs() / target.clamp_min(1e-6)
    return (relative / (1.0 + relative)).mean() + (1.0 - opacity).square().mean()
