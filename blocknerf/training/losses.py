"""Losses of a training step, and the record of their values."""

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.errors import TrainingError
from blocknerf.kernels import ray_losses
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import RayOutputs, ray_spacing
from blocknerf.sampling import RayHistogram, uniform_bins

VISIBILITY_RAY_STRIDE = 4
"""The visibility network is trained on every n-th ray of a step."""


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


def measured_depth(
    outputs: RayOutputs, depths: Float[Tensor, "measured"], tolerance: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return the depth losses of the first rays, which have a measured depth; `tolerance` is relative to the depth."""
    rows = slice(0, len(depths))
    t_mids, opacity = outputs.samples.t_mids[rows], outputs.opacity[rows]
    before_depth = line_of_sight(outputs.weights[rows], t_mids, depths, tolerance * depths)
    mean_depth = (outputs.weights[rows] * t_mids).sum(-1) / opacity.clamp_min(1e-3)
    return before_depth + expected_depth(mean_depth, depths, opacity)


def _masked_mean(values: Float[Tensor, "rays"], mask: Bool[Tensor, "rays"]) -> Float[Tensor, ""]:
    """Return the mean over the rays in the mask; zero for an empty mask."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def visibility_loss(
    field: Field, rays: RayBundle, outputs: RayOutputs, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """Return the error of the predicted transmittance along some of a step's rays (Tancik et al. 2022, section 4.2.2).

    The transmittance is detached, so, unlike in the paper, no tiny weight is needed to protect the field. Half of
    the rays are evaluated at the field's samples and half at uniform samples: the field's samples are concentrated
    at surfaces, but culling also evaluates points far behind them. In a short training on the sample town, uniform
    samples lowered the mean prediction at such points (true value 0) from 0.27 to 0.21, and raised the correlation
    with the true visibility from 0.85 to 0.87 (`tests/benchmarks/visibility.py`).
    """
    rays = rays.detach()
    stride = VISIBILITY_RAY_STRIDE
    field_rays, uniform_rays = slice(0, None, 2 * stride), slice(stride, None, 2 * stride)
    fine = RayHistogram(s_edges=outputs.samples.s_edges[uniform_rays], weights=outputs.weights[uniform_rays].detach())
    spacing, (count, samples) = ray_spacing(field), fine.weights.shape
    s_edges = uniform_bins(count, samples, generator, fine.weights.device)
    uniform = make_ray_samples(s_edges, rays[uniform_rays], spacing)
    uniform_transmittance = transmittance_at(fine, spacing.t_to_s(uniform.t_mids))
    points = torch.cat([outputs.samples.points[field_rays].detach(), uniform.points])
    directions = torch.cat([rays.directions[field_rays], rays.directions[uniform_rays]])
    transmittance = torch.cat([outputs.transmittance[field_rays], uniform_transmittance])
    return (field.visibility(points, directions) - transmittance.detach()).square().mean()


def transmittance_at(
    histogram: RayHistogram, positions: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples"]:
    """Return the transmittance of each ray at normalized positions, interpolated linearly between the edges.

    >>> ray = RayHistogram(s_edges=torch.tensor([[0.0, 0.5, 1.0]]), weights=torch.tensor([[0.2, 0.8]]))
    >>> transmittance_at(ray, torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]]))
    tensor([[1.0000, 0.9000, 0.8000, 0.4000, 0.0000]])
    """
    edges = histogram.s_edges.contiguous()
    transmittance = 1.0 - torch.nn.functional.pad(histogram.weights.cumsum(-1), (1, 0))
    upper = torch.searchsorted(edges, positions.contiguous(), right=True).clamp(1, edges.shape[-1] - 1)
    low, high = edges.gather(-1, upper - 1), edges.gather(-1, upper)
    fraction = ((positions - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
    return torch.lerp(transmittance.gather(-1, upper - 1), transmittance.gather(-1, upper), fraction)


class LossMonitor:
    """Keeps losses on the device that computes them; only `check` synchronizes."""

    def __init__(self, device: torch.device) -> None:
        self.last = torch.zeros(2, device=device)
        """Loss and mean squared color error of the last step."""
        self._first_invalid = torch.full((2,), -1.0, device=device)
        """The first step with a non-finite loss (-1 for none), and that loss."""

    def record(self, loss: Float[Tensor, ""], color_loss: Float[Tensor, ""], count: int | Float[Tensor, ""]) -> None:
        """Record the losses of step number `count`, counted from one."""
        loss, color_loss = loss.detach(), color_loss.detach()
        self.last.copy_(torch.stack([loss, color_loss]))
        step = (count if isinstance(count, Tensor) else torch.full_like(loss, count)) - 1.0
        is_first = (self._first_invalid[0] < 0.0) & ~loss.isfinite()
        self._first_invalid.copy_(torch.where(is_first, torch.stack([step, loss]), self._first_invalid))

    def check(self) -> None:
        """Wait for all steps so far and check their losses.

        Raises:
            TrainingError: A loss was not finite; names the first such step.
        """
        step, loss = self._first_invalid.tolist()
        if step >= 0.0:
            raise TrainingError(
                f"loss is {loss} at step {int(step)}; the last good checkpoint is kept: "
                "check exposures and poses, or use another --seed"
            )
