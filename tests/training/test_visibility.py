"""Visibility loss: evaluated points, gradients, and the trained visibility."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.volume_rendering import weights_from_density
from blocknerf.rendering.rays import render_rays
from blocknerf.sampling.proposal import RayHistogram
from blocknerf.training.visibility import RAY_STRIDE, transmittance_at, visibility_loss

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

    def color(self, features: Tensor, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        return features * 0.0

    def sky(self, directions: Tensor, code: Tensor, exposure: Tensor) -> Tensor:
        return directions * 0.0

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
    assert x.shape == (RAYS // RAY_STRIDE, 24)
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
