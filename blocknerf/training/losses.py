"""The terms of the training loss, one pure function each."""

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from blocknerf.kernels import ray_losses
from blocknerf.sampling.proposal import RayHistogram


def photometric(
    color: Float[Tensor, "rays 3"], target: Float[Tensor, "rays 3"], trusted: Bool[Tensor, "rays"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared color error, of trusted rays alone: trimmed least squares (RobustNeRF, Sabour et al. 2023)."""
    if trusted is None:
        return (color - target).square().mean()
    return (color - target).square().mean(-1).mul(trusted).sum() / trusted.sum().clamp_min(1)


def outlier_mask(errors: Float[Tensor, "rays"], share: float) -> Bool[Tensor, "rays"]:
    """Which rays have the largest errors: that share of them, or fewer where the last are equal.

    >>> outlier_mask(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.5).tolist()
    [False, True, False, True]
    """
    kept = len(errors) - int(share * len(errors))
    if kept < 1:
        return torch.ones_like(errors, dtype=torch.bool)
    return errors > errors.kthvalue(kept).values


def appearance_reg(codes: Float[Tensor, "frames codes"]) -> Float[Tensor, ""]:
    """Mean squared appearance code, which keeps codes near zero; zero where they hold no numbers at all."""
    return codes.square().sum() / max(codes.numel(), 1)


def interlevel(fine: RayHistogram, proposal: RayHistogram) -> Float[Tensor, ""]:
    """How far a proposal histogram falls short of bounding the field's weights (mip-NeRF 360, eq. 13).

    Gradients reach the proposal only: the fine weights are taken as given.
    """
    return ray_losses.interlevel(fine.s_edges, fine.weights, proposal.s_edges, proposal.weights)


def distortion(histogram: RayHistogram) -> Float[Tensor, ""]:
    """Spread of the weights along each ray, which pulls them together (mip-NeRF 360, eq. 15)."""
    return ray_losses.distortion(histogram.s_edges, histogram.weights)


def visibility_loss(
    predicted: Float[Tensor, "rays samples"], transmittance: Float[Tensor, "rays samples"]
) -> Float[Tensor, ""]:
    """Squared error of the predicted transmittance; the field is not moved (Tancik et al. 2022, section 4.2.2)."""
    return (predicted - transmittance.detach()).square().mean()


def sky_opacity(opacity: Float[Tensor, "rays"], sky: Int8[Tensor, "rays"]) -> Float[Tensor, ""]:
    """How much stands before what is known to be sky, and how much sky shines through what is known to be none.

    `sky` is 1, 0, or -1 where it is not known.
    """
    return (((opacity - (1 - sky)) * (sky >= 0)).square()).mean()


def line_of_sight(
    weights: Float[Tensor, "rays samples"],
    middles: Float[Tensor, "rays samples"],
    depth: Float[Tensor, "rays"],
    tolerance: Float[Tensor, "rays"],
) -> Float[Tensor, ""]:
    """Rays with a measured depth end there and pass freely before (after Rematas et al. 2022, eqs. 13 to 15).

    A depth of 0 was not measured and its ray does not count. `tolerance` is the half-width, in world units, of the
    shell around the depth in which the weight may lie.
    """
    before = middles < (depth - tolerance)[:, None]
    within = (middles - depth[:, None]).abs() <= tolerance[:, None]
    empty = (weights * before).sum(-1).square()
    hit = (1.0 - (weights * within).sum(-1)).square()
    # A ray none of whose samples fell into the shell says nothing about what the shell should hold.
    return _mean(empty + hit * within.any(-1), depth > 0.0)


def expected_depth(
    depth: Float[Tensor, "rays"], target: Float[Tensor, "rays"], opacity: Float[Tensor, "rays"]
) -> Float[Tensor, ""]:
    """Error of the rendered depth relative to the measured one, bounded so that outliers cannot rule.

    A target of 0 was not measured and does not count.
    """
    relative = (depth - target).abs() / target.clamp_min(1e-6)
    measured = target > 0.0
    return _mean(relative / (1.0 + relative), measured) + _mean((1.0 - opacity).square(), measured)


def _mean(values: Float[Tensor, "rays"], counted: Bool[Tensor, "rays"]) -> Float[Tensor, ""]:
    """Mean over the rays that count; zero where none does."""
    return (values * counted).sum() / counted.sum().clamp_min(1)
