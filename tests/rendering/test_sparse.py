"""Skipping empty space and stopping spent rays must not be seen."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.rendering.rays import render_rays
from blocknerf.rendering.sparse import SPENT, render_rays_sparse

MakeScene = Callable[..., Any]
MakeRays = Callable[[Sequence[float]], RayBundle]
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)
SCENES = {
    "thin fog": [(2.0, 6.0, 0.15, RED)],
    "wall": [(4.0, 4.5, 60.0, BLUE)],
    "red before blue": [(1.0, 3.0, 0.4, RED), (5.0, 8.0, 0.7, BLUE)],
    "wall before wall": [(2.0, 3.0, 50.0, RED), (5.0, 6.0, 50.0, BLUE)],
}
SLOPES = (1.0, 0.8, 0.5, 0.0, -0.7)


def both(scene: Any, occupancy: Any, rays: RayBundle) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Color, depth and opacity, plainly and sparsely."""
    code, exposure = torch.full((len(rays), 3), 0.05), torch.full((len(rays),), 0.9)
    seen = render_rays(scene, rays, code, exposure)
    return [(seen.color, seen.depth, seen.opacity), render_rays_sparse(scene, occupancy, rays, code, exposure)]


def worst(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> float:
    """The largest difference in color, opacity, and depth in units of itself."""
    color, depth, opacity = (float((a - b).abs().max()) for a, b in zip(first, second, strict=True))
    return max(color, opacity, depth / float(first[1].max()))


@pytest.mark.parametrize("name", SCENES)
def test_exact_occupancy_gives_the_same_picture(
    slabs: MakeScene, exactly: Callable[..., Any], rays_along: MakeRays, name: str
) -> None:
    scene = slabs(SCENES[name])
    plain, sparse = both(scene, exactly(scene), rays_along(SLOPES))
    assert worst(plain, sparse) < 1e-3


@pytest.mark.parametrize("name", ["thin fog", "red before blue"])
def test_full_occupancy_gives_the_same_numbers_where_no_ray_is_spent(
    slabs: MakeScene, everything: Callable[[], Any], rays_along: MakeRays, name: str
) -> None:
    plain, sparse = both(slabs(SCENES[name]), everything(), rays_along(SLOPES))
    assert worst(plain, sparse) < 1e-5


def test_what_is_left_out_behind_a_wall_is_bounded(
    slabs: MakeScene, everything: Callable[[], Any], rays_along: MakeRays
) -> None:
    plain, sparse = both(slabs(SCENES["wall before wall"]), everything(), rays_along(SLOPES))
    assert worst(plain, sparse) < 1.5 * SPENT


def test_empty_occupancy_shows_the_sky(slabs: MakeScene, exactly: Callable[..., Any], rays_along: MakeRays) -> None:
    scene, rays = slabs(SCENES["wall"]), rays_along(SLOPES)
    code, exposure = torch.zeros(len(rays), 3), torch.ones(len(rays))
    color, depth, opacity = render_rays_sparse(scene, exactly(slabs([(0.0, 0.0, 0.0, RED)])), rays, code, exposure)
    assert torch.equal(color, scene.sky(rays.directions, code, exposure))
    assert torch.equal(opacity, torch.zeros(len(rays)))
    assert torch.equal(depth, torch.full((len(rays),), scene.far))
    assert scene.evaluated == []


def test_only_what_matters_is_evaluated(slabs: MakeScene, exactly: Callable[..., Any], rays_along: MakeRays) -> None:
    scene, rays = slabs(SCENES["wall before wall"]), rays_along([1.0, 0.9, -1.0, -0.9])
    both(scene, exactly(scene), rays)
    plainly, sparsely = scene.evaluated[0], sum(scene.evaluated[1:])
    assert plainly == 4 * scene.sample_counts[-1]
    assert 0 < sparsely < 0.5 * plainly


def test_spent_rays_stop(slabs: MakeScene, everything: Callable[[], Any], rays_along: MakeRays) -> None:
    """Fog fills the whole ray, but what the first samples absorb leaves the rest out."""
    scene = slabs([(0.0, 200.0, 30.0, RED)], proposed=lambda points, footprints: torch.zeros_like(footprints))
    render_rays_sparse(scene, everything(), rays_along([1.0]), torch.zeros(1, 3), torch.ones(1))
    assert 0 < sum(scene.evaluated) < 0.4 * scene.sample_counts[-1]


def test_colors_are_clamped_to_what_can_be_shown(
    slabs: MakeScene, everything: Callable[[], Any], rays_along: MakeRays
) -> None:
    scene, rays = slabs(SCENES["thin fog"]), rays_along(SLOPES)
    color, _, _ = render_rays_sparse(scene, everything(), rays, torch.full((5, 3), 3.0), torch.ones(5))
    assert torch.equal(color, torch.ones(5, 3))


def test_no_gradient_is_kept(slabs: MakeScene, everything: Callable[[], Any], rays_along: MakeRays) -> None:
    code = torch.zeros(5, 3, requires_grad=True)
    color, _, _ = render_rays_sparse(slabs(SCENES["wall"]), everything(), rays_along(SLOPES), code, torch.ones(5))
    assert not color.requires_grad
