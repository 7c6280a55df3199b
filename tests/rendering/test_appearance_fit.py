"""Optimization of an appearance code: it recovers the code that was used, within what the trained codes know."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.city.appearance import prior_for_block
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.metrics import psnr
from blocknerf.rendering.appearance_fit import INDEPENDENT_ERRORS, CodePrior, cache_rays, optimize_code
from blocknerf.rendering.rays import render_rays

MakeScene = Callable[..., Any]
MakeRays = Callable[[Sequence[float]], RayBundle]
DIRECTIONS_X = (1.0, 0.9, 0.7, 0.4, -0.2, -0.9)
WIDE = CodePrior.isotropic(3, 0.5)


@pytest.fixture
def color_of(slabs: MakeScene, rays_along: MakeRays) -> Callable[[Tensor], Tensor]:
    """The colors of six rays; the code is added to each."""
    scene = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))])
    return partial(cache_rays(scene, rays_along(DIRECTIONS_X), 1.0).color, scene)


def test_optimization_recovers_a_known_code(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    true_code = torch.tensor([0.2, -0.15, 0.05])
    target = render_rays(scene, rays, true_code.expand(len(rays), 3), torch.full((len(rays),), 0.8)).color
    code = optimize_code(partial(cache_rays(scene, rays, 0.8).color, scene), target, prior=WIDE)
    assert torch.allclose(code, true_code, atol=2e-3)
    assert not code.requires_grad


def test_the_initial_code_is_not_modified(color_of: Callable[[Tensor], Tensor]) -> None:
    start = torch.full((3,), 0.3)
    optimize_code(color_of, torch.full((6, 3), 0.7), prior=WIDE, initial_codes=[start], steps=3)
    assert torch.equal(start, torch.full((3,), 0.3))
    assert torch.equal(WIDE.mean, torch.zeros(3))


@pytest.mark.parametrize(("true", "best"), [(0.0, 0.0), (0.12, 0.1), (-0.4, -0.3), (0.4, 0.5)])
def test_optimization_uses_the_best_initial_code(
    true: float, best: float, color_of: Callable[[Tensor], Tensor]
) -> None:
    """The mean of the prior, zero, is always a candidate."""
    starts, target = [torch.full((3,), value) for value in (0.5, 0.1, -0.3)], color_of(torch.full((3,), true))
    code = optimize_code(color_of, target, prior=WIDE, initial_codes=starts, steps=0)
    assert torch.equal(code, torch.full((3,), best))


@pytest.mark.parametrize("noise", [0.003, 0.1, 0.3])
def test_the_result_balances_the_color_error_and_the_prior(noise: float, color_of: Callable[[Tensor], Tensor]) -> None:
    """The code is added to every channel, so the most probable code is known up to the variance of the errors."""
    std, true_code = 0.02, torch.tensor([0.04, -0.02, 0.0])
    target = color_of(true_code) + noise * torch.tensor([1.0, -1.0] * 3)[:, None]
    code = optimize_code(color_of, target, prior=CodePrior.isotropic(3, std), steps=400)
    variance = noise**2 + float((code - true_code).square().mean())
    expected = true_code / (1.0 + 3.0 * variance / (INDEPENDENT_ERRORS * std**2))
    assert torch.allclose(code, expected, atol=5e-4)


def test_rays_are_weighted(color_of: Callable[[Tensor], Tensor]) -> None:
    codes = (torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.1]))
    target = torch.cat([color_of(code)[part] for code, part in zip(codes, (slice(3), slice(3, 6)), strict=True)])
    for pair in ((1.0, 1.0), (3.0, 1.0), (0.0, 2.0)):
        weights = torch.tensor(pair).repeat_interleave(3)
        code = optimize_code(color_of, target, prior=WIDE, ray_weights=weights, steps=200)
        expected = (pair[0] * codes[0] + pair[1] * codes[1]) / sum(pair)
        assert torch.allclose(code, expected, atol=3e-3)


def test_cached_rays_match_rendering(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    code = torch.tensor([0.1, 0.0, -0.1])
    outputs = render_rays(scene, rays, code.expand(len(rays), 3), torch.full((len(rays),), 0.8))
    assert torch.allclose(cache_rays(scene, rays, 0.8).color(scene, code), outputs.color, atol=1e-6)


def test_geometry_is_evaluated_once(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    optimize_code(partial(cache_rays(scene, rays, 1.0).color, scene), torch.zeros(len(rays), 3), prior=WIDE, steps=20)
    assert len(scene.evaluated) == 1


@pytest.mark.parametrize("count", [2, 5, 400])
def test_the_prior_is_the_distribution_of_the_codes(count: int) -> None:
    scales = torch.tensor([0.3, 0.02, 0.01, 0.0])
    codes = torch.randn(count, 4, generator=torch.Generator().manual_seed(count)) * scales + 0.1
    prior = CodePrior.of(codes)
    assert torch.allclose(prior.mean, codes.mean(0), atol=1e-6)
    assert torch.allclose(prior.axes @ prior.axes.T, torch.cov(codes.T, correction=0), atol=1e-5)
    assert int(prior.axes.any(0).sum()) == min(3, count - 1)
    z = torch.stack([prior.whiten(code) for code in codes])
    assert torch.allclose(prior.mean + z @ prior.axes.T, codes, atol=1e-4)
    assert float(z.square().sum(1).mean()) == pytest.approx(min(3, count - 1), rel=1e-2)


@pytest.mark.parametrize(("around_start", "center"), [(False, 0.0), (True, 0.5)])
def test_unattainable_colors_leave_the_code_at_the_center_of_the_prior(around_start: bool, center: float) -> None:
    """With errors that no code can change much, the prior decides."""
    start = torch.tensor([0.5])
    code = optimize_code(
        lambda code: 1e-3 * code.expand(5, 3),
        torch.ones(5, 3),
        prior=CodePrior.isotropic(1, 0.1),
        initial_codes=[start],
        around_start=around_start,
        independent_errors=1,
        steps=400,
    )
    torch.testing.assert_close(code, torch.tensor([center]), atol=0.01, rtol=0.0)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_fit_stays_in_the_span_of_the_trained_codes(offset: float, color_of: Callable[[Tensor], Tensor]) -> None:
    """An initial code outside the span keeps its distance from it."""
    prior = CodePrior.of(torch.tensor([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]))
    start, target = torch.tensor([0.0, offset, 0.0]), color_of(torch.tensor([0.2, 0.7, 0.7]))
    code = optimize_code(color_of, target, prior=prior, initial_codes=[start], steps=100)
    assert torch.equal(code[1:], start[1:])
    assert 0.05 < float(code[0]) < 0.2


@pytest.mark.parametrize(("count", "dim"), [(1, 3), (4, 3), (1, 0), (3, 0)])
def test_codes_without_spread_leave_the_best_candidate(count: int, dim: int) -> None:
    prior = CodePrior.of(torch.full((count, dim), 0.2))
    assert not prior.whiten(torch.ones(dim)).any()
    code = optimize_code(lambda code: code.sum().expand(5, 3), torch.ones(5, 3), prior=prior)
    assert torch.allclose(code, torch.full((dim,), 0.2))
    if dim:
        starts = [torch.full((dim,), 0.3)]
        code = optimize_code(lambda code: code.sum().expand(5, 3), torch.ones(5, 3), prior=prior, initial_codes=starts)
        assert torch.equal(code, starts[0])


class WavyPanorama:
    """A panorama; its code adds smooth waves, and images differ from it by other smooth waves."""

    def __init__(self, seed: int, dim: int = 16) -> None:
        self.random = torch.Generator().manual_seed(seed)
        x = torch.linspace(0.0, 1.0, 400)
        self.basis = torch.stack([self.wave(x) for _ in range(dim)], -1)
        self.basis[..., :2] = torch.tensor([[1.0, 0.2], [0.6, 0.6], [0.2, 1.0]])  # More and less warm light.
        self.errors = 0.05 * torch.stack([self.wave(x) for _ in range(16)]).sum(0) / 4.0
        self.left, self.right = slice(0, 200), slice(200, 400)

    def wave(self, x: Tensor) -> Tensor:
        frequency, phase = (
            20.0 + 400.0 * torch.rand(3, generator=self.random),
            7.0 * torch.rand(3, generator=self.random),
        )
        return torch.sin(frequency * x[:, None] + phase)

    def color(self, code: Tensor, part: slice) -> Tensor:
        return 0.5 + self.basis[part] @ code

    def fit(self, true_code: Tensor, prior: CodePrior) -> Tensor:
        target = (self.color(true_code, self.left) + self.errors[self.left]).detach()
        return optimize_code(lambda code: self.color(code, self.left), target, prior=prior)

    def score(self, code: Tensor, true_code: Tensor) -> float:
        target = self.color(true_code, self.right) + self.errors[self.right]
        value = psnr(self.color(code, self.right)[None], target[None])
        assert value is not None
        return value


@pytest.mark.parametrize("seed", range(4))
def test_constant_light_does_not_get_worse(seed: int) -> None:
    """Codes of images in the same light differ by noise, and a fit to one half of an image does not help the other."""
    scene = WavyPanorama(seed)
    codes = 0.0015 * torch.randn(20, 16, generator=scene.random)
    prior, true_code = CodePrior.of(codes), codes.mean(0)
    loss = scene.score(prior.mean, true_code) - scene.score(scene.fit(true_code, prior), true_code)
    assert loss < 0.05
    free = scene.fit(true_code, CodePrior.isotropic(16, 0.5))
    assert scene.score(prior.mean, true_code) - scene.score(free, true_code) > 0.05, "without the prior"


@pytest.mark.parametrize("light", [(0.3, 0.0), (-0.2, 0.2), (0.0, -0.3)])
def test_one_of_three_lights_is_found(light: tuple[float, float]) -> None:
    scene, lights = WavyPanorama(0), torch.zeros(3, 16)
    lights[:, :2] = torch.tensor([(0.3, 0.0), (-0.2, 0.2), (0.0, -0.3)])
    codes = lights.repeat_interleave(12, 0) + 0.003 * torch.randn(36, 16, generator=scene.random)
    prior, true_code = CodePrior.of(codes), torch.cat([torch.tensor(light), torch.zeros(14)])
    fitted, best = scene.score(scene.fit(true_code, prior), true_code), scene.score(true_code, true_code)
    assert fitted > best - 0.1
    assert fitted > scene.score(prior.mean, true_code) + 3.0


def random_field(frames: tuple[str, ...] = ("a", "b"), appearance_dim: int = 8) -> BlockField:
    torch.manual_seed(0)
    spec = FieldSpec(
        origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=frames, exposure_reference=1.0,
        num_levels=3, log2_hashmap_size=10, base_resolution=4, max_resolution=32, hidden_dim=16,
        appearance_dim=appearance_dim, proposal_num_levels=2, proposal_log2_hashmap_size=10, proposal_max_resolution=32,
        visibility_log2_hashmap_size=10, visibility_max_resolution=32, num_proposal_samples=12, num_samples=8,
    )  # fmt: skip
    return BlockField(spec)


def test_no_weight_of_a_field_changes(rays_along: MakeRays) -> None:
    field, rays = random_field(), rays_along(DIRECTIONS_X)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    target = torch.rand(len(rays), 3, generator=torch.Generator().manual_seed(0))
    color_of = partial(cache_rays(field, rays, 1.0).color, field)
    optimized = optimize_code(color_of, target, prior=prior_for_block(field))
    with torch.no_grad():
        errors = [
            float((color_of(code) - target).square().mean()) for code in (field.mean_appearance_code(), optimized)
        ]
    assert errors[1] < errors[0]
    assert all(torch.equal(field.state_dict()[name], value) for name, value in before.items())
    assert all(value.grad is None for value in field.parameters())


@pytest.mark.parametrize(("frames", "appearance_dim"), [(("a",), 8), (("a", "b"), 0)])
def test_a_block_without_different_codes_keeps_its_mean_code(
    frames: tuple[str, ...], appearance_dim: int, rays_along: MakeRays
) -> None:
    field, rays = random_field(frames, appearance_dim), rays_along(DIRECTIONS_X)
    color_of = partial(cache_rays(field, rays, 1.0).color, field)
    code = optimize_code(color_of, torch.zeros(len(rays), 3), prior=prior_for_block(field))
    assert torch.equal(code, field.mean_appearance_code())
