"""Optimization of an appearance code: it recovers the code that was used, and changes nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from blocknerf.cameras import RayBundle
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.appearance_fit import cache_rays, optimize_cached, optimize_code
from blocknerf.rendering.rays import render_rays

MakeScene = Callable[..., Any]
MakeRays = Callable[[Sequence[float]], RayBundle]
DIRECTIONS_X = (1.0, 0.9, 0.7, 0.4, -0.2, -0.9)


def test_optimization_recovers_a_known_code(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    true_code = torch.tensor([0.2, -0.15, 0.05])
    target = render_rays(scene, rays, true_code.expand(len(rays), 3), torch.full((len(rays),), 0.8)).color
    code = optimize_code(scene, rays, target, 0.8, initial_code=torch.zeros(3))
    assert torch.allclose(code, true_code, atol=2e-3)
    assert not code.requires_grad


def test_the_initial_code_is_not_modified(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays, start = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X), torch.zeros(3)
    target = torch.full((len(rays), 3), 0.7)
    assert torch.equal(optimize_code(scene, rays, target, 1.0, initial_code=start, steps=0), start)
    optimize_code(scene, rays, target, 1.0, initial_code=start, steps=3)
    assert torch.equal(start, torch.zeros(3))


def test_optimization_uses_the_best_initial_code(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    cached, starts = cache_rays(scene, rays, 1.0), [torch.full((3,), value) for value in (0.5, 0.1, -0.3)]
    code = optimize_cached(scene, cached, cached.color(scene, torch.zeros(3)), initial_codes=starts, steps=0)
    assert torch.equal(code, starts[1])


def test_regularization_keeps_a_code_near_its_initial_value(slabs: MakeScene, rays_along: MakeRays) -> None:
    """The code is added to every channel, so a weight of 1/3 balances the color error."""
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    cached, true_code, start = cache_rays(scene, rays, 1.0), torch.tensor([0.2, -0.1, 0.0]), torch.full((3,), 0.1)
    target = cached.color(scene, true_code)
    for reg, expected in ((0.0, true_code), (1.0 / 3.0, (true_code + start) / 2), (1e3, start)):
        code = optimize_cached(scene, cached, target, initial_codes=[start], code_reg=reg, steps=200)
        assert torch.allclose(code, expected, atol=3e-3)


def test_rays_are_weighted(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    cached, codes = cache_rays(scene, rays, 1.0), (torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.1]))
    target = torch.cat(
        [cached.color(scene, code)[part] for code, part in zip(codes, (slice(3), slice(3, 6)), strict=True)]
    )
    for pair in ((1.0, 1.0), (3.0, 1.0), (0.0, 2.0)):
        weights = torch.tensor(pair).repeat_interleave(3)
        code = optimize_cached(scene, cached, target, initial_codes=[torch.zeros(3)], ray_weights=weights, steps=200)
        expected = (pair[0] * codes[0] + pair[1] * codes[1]) / sum(pair)
        assert torch.allclose(code, expected, atol=3e-3)


def test_cached_rays_match_rendering(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    code = torch.tensor([0.1, 0.0, -0.1])
    outputs = render_rays(scene, rays, code.expand(len(rays), 3), torch.full((len(rays),), 0.8))
    assert torch.allclose(cache_rays(scene, rays, 0.8).color(scene, code), outputs.color, atol=1e-6)


def test_geometry_is_evaluated_once(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(DIRECTIONS_X)
    optimize_code(scene, rays, torch.zeros(len(rays), 3), 1.0, initial_code=torch.zeros(3), steps=20)
    assert len(scene.evaluated) == 1


def random_field() -> BlockField:
    torch.manual_seed(0)
    spec = FieldSpec(
        origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=("a", "b"), exposure_reference=1.0,
        num_levels=3, log2_hashmap_size=10, base_resolution=4, max_resolution=32, hidden_dim=16, appearance_dim=8,
        proposal_num_levels=2, proposal_log2_hashmap_size=10, proposal_max_resolution=32,
        visibility_log2_hashmap_size=10, visibility_max_resolution=32, num_proposal_samples=12, num_samples=8,
    )  # fmt: skip
    return BlockField(spec)


def test_no_weight_of_a_field_changes(rays_along: MakeRays) -> None:
    field, rays = random_field(), rays_along(DIRECTIONS_X)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    target = torch.rand(len(rays), 3, generator=torch.Generator().manual_seed(0))
    start = field.mean_appearance_code()
    optimized = optimize_code(field, rays, target, 1.0, initial_code=start)
    cached = cache_rays(field, rays, 1.0)
    with torch.no_grad():
        errors = [float((cached.color(field, code) - target).square().mean()) for code in (start, optimized)]
    assert errors[1] < errors[0]
    assert all(torch.equal(field.state_dict()[name], value) for name, value in before.items())
    assert all(value.grad is None for value in field.parameters())
