"""Loss terms against hand-computed values, and the visibility loss: its points, gradients and what it trains."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.volume_rendering import weights_from_density
from blocknerf.rendering.rays import render_rays
from blocknerf.sampling import RayHistogram
from blocknerf.training import losses
from blocknerf.training.losses import VISIBILITY_RAY_STRIDE, transmittance_at, visibility_loss


def histogram(rays: int, bins: int, seed: int) -> RayHistogram:
    generator = torch.Generator().manual_seed(seed)
    inner = torch.rand(rays, bins - 1, generator=generator, dtype=torch.float64).sort(-1).values
    edges = torch.cat([torch.zeros(rays, 1), inner, torch.ones(rays, 1)], -1).double()
    weights = torch.rand(rays, bins, generator=generator, dtype=torch.float64)
    return RayHistogram(s_edges=edges, weights=weights / weights.sum(-1, keepdim=True))


def test_photometric_ignores_outliers():
    color = torch.rand(4, 3, requires_grad=True)
    target, inliers = torch.rand(4, 3), torch.tensor([True, False, True, True])
    loss = losses.photometric(color, target, inliers)
    assert torch.isclose(loss, losses.photometric(color[inliers], target[inliers]))
    loss.backward()
    assert (color.grad[1] == 0).all()
    assert (color.grad[inliers] != 0).all()


def test_photometric_without_inliers_is_zero():
    color = torch.rand(4, 3, requires_grad=True)
    loss = losses.photometric(color, torch.rand(4, 3), torch.zeros(4, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert (color.grad == 0).all()


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.1, 10), (0.25, 25), (1.0, 100)])
def test_outliers_are_the_fraction_with_the_largest_errors(fraction, count):
    errors = torch.rand(100, generator=torch.Generator().manual_seed(0))
    outlier_mask = losses.outlier_mask(errors, fraction)
    assert int(outlier_mask.sum()) == count
    if 0 < count < 100:
        assert errors[outlier_mask].min() > errors[~outlier_mask].max()


def test_equal_errors_are_not_outliers():
    assert not losses.outlier_mask(torch.ones(8), 0.5).any()


def test_appearance_reg_is_the_mean_square_and_supports_empty_codes():
    codes = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    assert float(losses.appearance_reg(codes.detach())) == 3.5
    empty = torch.zeros(5, 0, requires_grad=True)
    losses.appearance_reg(empty).backward()
    assert float(losses.appearance_reg(empty.detach())) == 0.0


def test_distortion_matches_the_double_sum():
    rays = histogram(3, 7, 0)
    mids = 0.5 * (rays.s_edges[:, 1:] + rays.s_edges[:, :-1])
    widths = rays.s_edges[:, 1:] - rays.s_edges[:, :-1]
    expected = 0.0
    for ray in range(3):
        for i in range(7):
            expected += float(rays.weights[ray, i] ** 2 * widths[ray, i]) / 3
            for j in range(7):
                expected += float(rays.weights[ray, i] * rays.weights[ray, j] * (mids[ray, i] - mids[ray, j]).abs())
    assert abs(float(losses.distortion(rays)) - expected / 3) < 1e-12


def test_interlevel_is_zero_for_equal_histograms_and_positive_if_the_proposal_misses():
    fine = histogram(4, 8, 1)
    assert float(losses.interlevel(fine, fine)) < 1e-20
    edges = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    fine = RayHistogram(s_edges=edges, weights=torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    missed = RayHistogram(s_edges=edges, weights=torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert float(losses.interlevel(fine, missed)) > 0.9


def test_interlevel_has_gradients_for_the_proposal_only():
    fine, proposal = histogram(4, 8, 2), histogram(4, 5, 3)
    fine.weights.requires_grad_(True)
    proposal.weights.requires_grad_(True)
    losses.interlevel(fine, proposal).backward()
    assert fine.weights.grad is None
    assert torch.isfinite(proposal.weights.grad).all()
    assert proposal.weights.grad.abs().sum() > 0


def test_line_of_sight_prefers_weight_at_the_measured_depth():
    mids = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    depth, tolerance = torch.tensor([3.0]), torch.tensor([0.5])
    correct = losses.line_of_sight(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), mids, depth, tolerance)
    early = losses.line_of_sight(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), mids, depth, tolerance)
    late = losses.line_of_sight(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), mids, depth, tolerance)
    assert [float(loss) for loss in (correct, early, late)] == [0.0, 2.0, 1.0]


def test_expected_depth_is_bounded_for_outliers():
    opaque = torch.ones(1)
    assert float(losses.expected_depth(torch.tensor([5.0]), torch.tensor([5.0]), opaque)) == 0.0
    assert float(losses.expected_depth(torch.tensor([1e9]), torch.tensor([5.0]), opaque)) <= 1.0


def test_sky_opacity_is_zero_in_the_sky_and_one_elsewhere() -> None:
    opacity = torch.tensor([0.0, 1.0, 0.3, 0.5], requires_grad=True)
    loss = losses.sky_opacity(opacity.detach(), torch.tensor([1, 0, -1, -1], dtype=torch.int8))
    assert float(loss) == 0.0
    losses.sky_opacity(opacity, torch.tensor([1, 1, -1, 0], dtype=torch.int8)).backward()
    assert opacity.grad is not None
    assert [float(sign) for sign in opacity.grad.sign()] == [0.0, 1.0, 0.0, -1.0]


def depth_losses(weights, mids, depth):
    opacity = weights.sum(-1)
    return (
        losses.line_of_sight(weights, mids, depth, 0.1 * depth),
        losses.expected_depth((weights * mids).sum(-1), depth, opacity),
    )


def test_rays_without_a_measured_depth_are_ignored():
    torch.manual_seed(0)
    weights = (torch.rand(9, 6) / 6.0).requires_grad_()
    mids, depth = (1.0 + torch.rand(9, 6)).sort(-1).values, 1.0 + torch.rand(9)
    measured = torch.arange(9) % 3 > 0
    for masked, subset in zip(
        depth_losses(weights, mids, torch.where(measured, depth, 0.0)),
        depth_losses(weights[measured], mids[measured], depth[measured]),
        strict=True,
    ):
        assert torch.allclose(masked, subset)
        (gradient,) = torch.autograd.grad(masked, weights)
        assert gradient[measured].any()
        assert not gradient[~measured].any()
    for loss in depth_losses(weights, mids, torch.zeros(9)):
        (gradient,) = torch.autograd.grad(loss, weights)
        assert float(loss.detach()) == 0.0
        assert not gradient.any()


def test_masked_mean_of_a_full_mask_is_bitwise_equal_to_the_mean():
    torch.manual_seed(0)
    values = torch.rand(997, requires_grad=True)
    mean, masked_mean = values.square().mean(), losses._masked_mean(values.square(), torch.ones(997).bool())
    assert torch.equal(mean, masked_mean)
    gradients = [torch.autograd.grad(loss, values)[0] for loss in (mean, masked_mean)]
    assert torch.equal(*gradients)


RAYS = 64


class Wall:
    """Field that is empty up to x = 5, then opaque; `visibility` uses a function of x and records its points."""

    appearance_dim, near, far, linear_until = 1, 0.1, 60.0, 10.0
    num_samples = (48, 24)

    def __init__(self, predict: Callable[[Tensor], Tensor]) -> None:
        self.predict = predict
        self.points = torch.empty(0, 3)
        self.scale = torch.tensor(1.0, requires_grad=True)

    @property
    def proposal_density_fns(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [lambda points, footprints: self.density(points, footprints)[0].detach()]

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale * 20.0 * (points[..., 0] > 5.0), points

    def color(self, features: Tensor, directions: Tensor, code: Tensor) -> Tensor:
        return features * 0.0

    def sky(self, directions: Tensor, code: Tensor) -> Tensor:
        return directions * 0.0

    def expose(self, color: Tensor, exposure: Tensor) -> Tensor:
        return color

    def visibility(self, points: Tensor, directions: Tensor) -> Tensor:
        self.points = points
        return self.predict(points[..., 0])


def wall_loss(predict: Callable[[Tensor], Tensor]) -> tuple[Wall, Tensor]:
    """Return the field and its loss for rays from x = 0 along x."""
    field = Wall(predict)
    directions = torch.tensor([1.0, 0.0, 0.0]).expand(RAYS, 3).clone().requires_grad_(True)
    rays = RayBundle(origins=torch.zeros(RAYS, 3), directions=directions, pixel_radii=torch.zeros(RAYS))
    generator = torch.Generator().manual_seed(0)
    outputs = render_rays(field, rays, torch.zeros(RAYS, 1), torch.ones(RAYS), generator=generator)
    return field, visibility_loss(field, rays, outputs, generator)


def test_loss_is_small_for_the_correct_prediction_only() -> None:
    correct = float(wall_loss(lambda x: (x < 5.0).float())[1])
    # One sample per ray is just inside the wall, in an interval that starts in front of it.
    assert correct < 0.06
    for wrong in (lambda x: torch.ones_like(x), lambda x: (x > 5.0).float(), lambda x: (x < 8.0).float()):
        assert float(wall_loss(wrong)[1]) > correct + 0.05


def test_points_are_at_surfaces_and_far_behind_them() -> None:
    x = wall_loss(lambda x: torch.ones_like(x))[0].points[..., 0]
    assert x.shape == (RAYS // VISIBILITY_RAY_STRIDE, 24)
    field_x, uniform_x = x.chunk(2)
    assert float((field_x > 8.0).float().mean()) < 0.1
    # Half of the uniform samples are beyond `linear_until`, 10.
    assert float((uniform_x > 10.0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(((field_x > 4.0) & (field_x < 6.0)).float().mean()) > 0.4


def test_loss_has_gradients_for_the_visibility_network_only() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    field, loss = wall_loss(lambda x: weight.expand_as(x))
    loss.backward()
    assert field.scale.grad is None
    assert weight.grad is not None
    assert float(weight.grad) != 0.0


def test_transmittance_at_the_edges_matches_the_density() -> None:
    generator = torch.Generator().manual_seed(1)
    edges = torch.rand(5, 13, generator=generator).sort(-1).values
    density = 8.0 * torch.rand(5, 12, generator=generator)
    weights, transmittance = weights_from_density(density, edges)
    histogram = RayHistogram(s_edges=edges, weights=weights)
    assert torch.allclose(transmittance_at(histogram, edges[:, :-1].contiguous()), transmittance, atol=1e-5)
    # The transmittance is constant before the first and after the last edge.
    ends = transmittance_at(histogram, torch.tensor([[-1.0, 2.0]]).expand(5, 2))
    assert torch.allclose(ends, torch.stack([torch.ones(5), 1.0 - weights.sum(-1)], -1), atol=1e-5)


def test_short_training_predicts_occlusion(trained_clean) -> None:
    rays = trained_clean.pixels.cameras.rays(torch.arange(8), torch.tensor([[12.0, 8.0]]).expand(8, 2))
    # Every camera looks at the center of the ball (radius one) from a distance of 3.0 to 3.1.
    distances = torch.tensor([1.6, 1.8, 2.6, 3.6])
    points = rays.origins[:, None] + distances[:, None] * rays.directions[:, None]
    with torch.no_grad():
        predicted = trained_clean.field.visibility(points, rays.directions).mean(0).tolist()
    assert min(predicted[:2]) > 0.8
    assert max(predicted[2:]) < 0.25
