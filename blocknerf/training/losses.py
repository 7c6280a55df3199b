"""Terms of the training loss, as pure functions."""

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from blocknerf.kernels import ray_losses
from blocknerf.sampling.proposal import RayHistogram


def photometric(
    color: Float[Tensor, "rays 3"], target: Float[Tensor, "rays 3"], inliers: Bool[Tensor, "rays"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean squared color error of the inliers: trimmed least squares (RobustNeRF, Sabour et al. 2023)."""
    if inliers is None:
        return (color - target).square().mean()
    return (color - target).square().mean(-1).mul(inliers).sum() / inliers.sum().clamp_min(1)


def outlier_mask(errors: Float[Tensor, "rays"], fraction: float) -> Bool[Tensor, "rays"]:
    """Return a mask of the `fraction` of rays with the largest errors; fewer rays in case of ties.

    >>> outlier_mask(torch.tensor([0.1, 0.4, 0.2, 0.3]), 0.5).tolist()
    [False, True, False, True]
    """
    inlier_count = len(errors) - int(fraction * len(errors))
    if inlier_count < 1:
        return torch.ones_like(errors, dtype=torch.bool)
    return errors > errors.kthvalue(inlier_count).values


def appearance_reg(codes: Float[Tensor, "frames codes"]) -> Float[Tensor, ""]:
    """Return the mean squared appearance code, which keeps codes near zero; zero for codes of size 0."""
    return codes.square().sum() / max(codes.numel(), 1)


def interlevel(fine: RayHistogram, proposal: RayHistogram) -> Float[Tensor, ""]:
    """Return the interlevel loss: how much the fine weights exceed the proposal's bound (mip-NeRF 360, eq. 13).

    Only the proposal receives gradients.
    """
    return ray_losses.interlevel(fine.s_edges, fine.weights, proposal.s_edges, proposal.weights)


def distortion(histogram: RayHistogram) -> Float[Tensor, ""]:
    """Return the distortion loss, which concentrates the weights along each ray (mip-NeRF 360, eq. 15)."""
    return ray_losses.distortion(histogram.s_edges, histogram.weights)


def visibility_loss(
    predicted: Float[Tensor, "rays samples"], transmittance: Float[Tensor, "rays samples"]
) -> Float[Tensor, ""]:
    """Return the mean squared error of the predicted transmittance (Tancik et al. 2022, section 4.2.2).

    The field receives no gradient through `transmittance`.
    """
    return (predicted - transmittance.detach()).square().mean()


def sky_opacity(opacity: Float[Tensor, "rays"], sky: Int8[Tensor, "rays"]) -> Float[Tensor, ""]:
    """Return the mean squared error of the opacity: 0 is expected for sky pixels and 1 for the others.

    `sky` is 1 for sky, 0 for no sky, and -1 if unknown; unknown pixels do not contribute.
    """
    return (((opacity - (1 - sky)) * (sky >= 0)).square()).mean()


def line_of_sight(
    weights: Float[Tensor, "rays samples"],
    t_mids: Float[Tensor, "rays samples"],
    depth: Float[Tensor, "rays"],
    tolerance: Float[Tensor, "rays"],
) -> Float[Tensor, ""]:
    """Return the line-of-sight loss of rays with a measured depth (after Rematas et al. 2022, eqs. 13 to 15).

    It penalizes weight in front of the depth, and a total weight other than 1 within `tolerance` of it. `tolerance` is
    in world units. A depth of 0 means not measured; such rays do not contribute.
    """
    before = t_mids < (depth - tolerance)[:, None]
    near = (t_mids - depth[:, None]).abs() <= tolerance[:, None]
    empty = (weights * before).sum(-1).square()
    hit = (1.0 - (weights * near).sum(-1)).square()
    # The second term needs at least one sample near the depth.
    return _masked_mean(empty + hit * near.any(-1), depth > 0.0)


def expected_depth(
    depth: Float[Tensor, "rays"], target: Float[Tensor, "rays"], opacity: Float[Tensor, "rays"]
) -> Float[Tensor, ""]:
    """Return the relative error of the rendered depth, bounded to limit the influence of outliers.

    A target of 0 means not measured; such rays do not contribute.
    """
    relative = (depth - target).abs() / target.clamp_min(1e-6)
    measured = target > 0.0
    return _masked_mean(relative / (1.0 + relative), measured) + _masked_mean((1.0 - opacity).square(), measured)


def _masked_mean(values: Float[Tensor, "rays"], mask: Bool[Tensor, "rays"]) -> Float[Tensor, ""]:
    """Return the mean over the rays in the mask; zero for an empty mask."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
