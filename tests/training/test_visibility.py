"""What the visibility network is asked and told, and what it learns."""

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
    """Air up to x = 5, then solid; answers `visibility` by a rule and keeps what it was asked."""

    appearance_dim, near, far, linear_until = 1, 0.1, 60.0, 10.0
    num_samples = (48, 24)

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer
        self.asked = torch.empty(0, 3)
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
        self.asked = points
        return self.answer(points[..., 0])


def ask(answer: Callable[[Tensor], Tensor]) -> tuple[Wall, Tensor]:
    """The loss of a field that answers so, of rays from x = 0 along x."""
    field = Wall(answer)
    along = torch.tensor([1.0, 0.0, 0.0]).expand(RAYS, 3).clone().requires_grad_(True)
    rays = RayBundle(origins=torch.zeros(RAYS, 3), directions=along, pixel_radii=torch.zeros(RAYS))
    generator = torch.Generator().manual_seed(0)
    seen = render_rays(field, rays, torch.zeros(RAYS, 1), torch.ones(RAYS), generator=generator)
    return field, visibility_loss(field, rays, seen, generator)


def test_the_right_answer_costs_next_to_nothing_and_wrong_ones_much() -> None:
    right = float(ask(lambda x: (x < 5.0).float())[1])
    # One sample a ray lies just within the wall, in an interval that begins before it.
    assert right < 0.06
    for wrong in (lambda x: torch.ones_like(x), lambda x: (x > 5.0).float(), lambda x: (x < 8.0).float()):
        assert float(ask(wrong)[1]) > right + 0.05


def test_it_is_asked_at_surfaces_and_far_behind_them() -> None:
    x = ask(lambda x: torch.ones_like(x))[0].asked[..., 0]
    assert x.shape == (RAYS // RAY_STRIDE, 24)
    own, even = x.chunk(2)
    assert float((own > 8.0).float().mean()) < 0.1
    # Half of the even samples lie beyond the knee, at 10.
    assert float((even > 10.0).float().mean()) == pytest.approx(0.5, abs=0.1)
    assert float(((own > 4.0) & (own < 6.0)).float().mean()) > 0.4


def test_neither_the_field_nor_the_poses_learn_from_it() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    field, loss = ask(lambda x: weight.expand_as(x))
    loss.backward()
    assert field.scale.grad is None
    assert weight.grad is not None
    assert float(weight.grad) != 0.0


def test_transmittance_at_the_edges_is_that_of_the_density() -> None:
    generator = torch.Generator().manual_seed(1)
    edges = torch.rand(5, 13, generator=generator).sort(-1).values
    density = 8.0 * torch.rand(5, 12, generator=generator)
    weights, transmittance = weights_from_density(density, edges)
    histogram = RayHistogram(s_edges=edges, weights=weights)
    assert torch.allclose(transmittance_at(histogram, edges[:, :-1].contiguous()), transmittance, atol=1e-5)
    # Before the first edge nothing is lost, and beyond the last nothing more.
    ends = transmittance_at(histogram, torch.tensor([[-1.0, 2.0]]).expand(5, 2))
    assert torch.allclose(ends, torch.stack([torch.ones(5), 1.0 - weights.sum(-1)], -1), atol=1e-5)


def test_a_short_training_tells_what_is_hidden(trained_clean) -> None:
    rays = trained_clean.pixels.cameras.rays(torch.arange(8), torch.tensor([[12.0, 8.0]]).expand(8, 2))
    # Every camera looks at the middle of the ball, of radius one, from 3.0 to 3.1 away.
    distances = torch.tensor([1.6, 1.8, 2.6, 3.6])
    points = rays.origins[:, None] + distances[:, None] * rays.directions[:, None]
    with torch.no_grad():
        predicted = trained_clean.field.visibility(points, rays.directions).mean(0).tolist()
    assert min(predicted[:2]) > 0.8
    assert max(predicted[2:]) < 0.25
