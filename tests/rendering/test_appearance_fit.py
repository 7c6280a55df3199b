"""Fitting an appearance code: it finds the one that was used, and touches nothing else."""

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
SLOPES = (1.0, 0.9, 0.7, 0.4, -0.2, -0.9)


def test_a_known_code_is_found(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    wanted = torch.tensor([0.2, -0.15, 0.05])
    target = render_rays(scene, rays, wanted.expand(len(rays), 3), torch.full((len(rays),), 0.8)).color
    found = optimize_code(scene, rays, target, 0.8, start=torch.zeros(3))
    assert torch.allclose(found, wanted, atol=2e-3)
    assert not found.requires_grad


def test_the_start_is_left_as_it_is(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays, start = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES), torch.zeros(3)
    target = torch.full((len(rays), 3), 0.7)
    assert torch.equal(optimize_code(scene, rays, target, 1.0, start=start, steps=0), start)
    optimize_code(scene, rays, target, 1.0, start=start, steps=3)
    assert torch.equal(start, torch.zeros(3))


def test_the_best_of_several_starts_is_taken(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    frozen, starts = cache_rays(scene, rays, 1.0), [torch.full((3,), value) for value in (0.5, 0.1, -0.3)]
    found = optimize_cached(scene, frozen, frozen.color(scene, torch.zeros(3)), starts=starts, steps=0)
    assert torch.equal(found, starts[1])


def test_a_code_is_held_near_its_start(slabs: MakeScene, rays_along: MakeRays) -> None:
    """The code is added to every channel, so that a weight of a third holds it as firmly as the colors pull."""
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    frozen, wanted, start = cache_rays(scene, rays, 1.0), torch.tensor([0.2, -0.1, 0.0]), torch.full((3,), 0.1)
    target = frozen.color(scene, wanted)
    for hold, expected in ((0.0, wanted), (1.0 / 3.0, (wanted + start) / 2), (1e3, start)):
        found = optimize_cached(scene, frozen, target, starts=[start], hold=hold, steps=200)
        assert torch.allclose(found, expected, atol=3e-3)


def test_rays_count_by_their_weights(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    frozen, codes = cache_rays(scene, rays, 1.0), (torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.1]))
    target = torch.cat(
        [frozen.color(scene, code)[part] for code, part in zip(codes, (slice(3), slice(3, 6)), strict=True)]
    )
    for shares in ((1.0, 1.0), (3.0, 1.0), (0.0, 2.0)):
        weights = torch.tensor(shares).repeat_interleave(3)
        found = optimize_cached(scene, frozen, target, starts=[torch.zeros(3)], weights=weights, steps=200)
        expected = (shares[0] * codes[0] + shares[1] * codes[1]) / sum(shares)
        assert torch.allclose(found, expected, atol=3e-3)


def test_frozen_rays_show_what_rendering_shows(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    code = torch.tensor([0.1, 0.0, -0.1])
    seen = render_rays(scene, rays, code.expand(len(rays), 3), torch.full((len(rays),), 0.8))
    assert torch.allclose(cache_rays(scene, rays, 0.8).color(scene, code), seen.color, atol=1e-6)


def test_geometry_is_evaluated_once(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 6.0, 0.3, (0.4, 0.3, 0.2))]), rays_along(SLOPES)
    optimize_code(scene, rays, torch.zeros(len(rays), 3), 1.0, start=torch.zeros(3), steps=20)
    assert len(scene.evaluated) <= 2


def learned_field() -> BlockField:
    torch.manual_seed(0)
    spec = FieldSpec(
        origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=("a", "b"), exposure_reference=1.0,
        num_levels=3, log2_hashmap_size=10, base_resolution=4, max_resolution=32, hidden_dim=16, appearance_dim=8, proposal_num_levels=2,
        proposal_log2_hashmap_size=10, proposal_max_resolution=32, visibility_log2_hashmap_size=10,
        visibility_max_resolution=32, num_proposal_samples=12, num_samples=8,
    )  # fmt: skip
    return BlockField(spec)


def test_no_weight_of_a_learned_field_changes(rays_along: MakeRays) -> None:
    field, rays = learned_field(), rays_along(SLOPES)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    target = torch.rand(len(rays), 3, generator=torch.Generator().manual_seed(0))
    start = field.mean_appearance_code()
    found = optimize_code(field, rays, target, 1.0, start=start)
    frozen = cache_rays(field, rays, 1.0)
    with torch.no_grad():
        errors = [float((frozen.color(field, code) - target).square().mean()) for code in (start, found)]
    assert errors[1] < errors[0]
    assert all(torch.equal(field.state_dict()[name], value) for name, value in before.items())
    assert all(value.grad is None for value in field.parameters())
