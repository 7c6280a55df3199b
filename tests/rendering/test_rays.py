"""Volume rendering against what fog, walls and layers give on paper."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.radiance.activations import scale_gradient
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import render_rays

MakeScene = Callable[..., Any]
MakeRays = Callable[[Sequence[float]], RayBundle]
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)
SLOPES = (1.0, 0.8, 0.5)


def plain(rays: RayBundle) -> tuple[Tensor, Tensor]:
    """No appearance, exposure one."""
    return torch.zeros(len(rays), 3), torch.ones(len(rays))


SCENES = {
    "thin fog": [(2.0, 6.0, 0.15, RED)],
    "thick fog": [(3.0, 9.0, 2.0, RED)],
    "wall": [(4.0, 4.5, 60.0, BLUE)],
    "red before blue": [(1.0, 3.0, 0.4, RED), (5.0, 8.0, 0.7, BLUE)],
    "far away": [(40.0, 45.0, 0.3, RED)],
}


def errors(scene: Any, rays: RayBundle, slopes: Sequence[float]) -> tuple[float, float, float]:
    """Worst error of color, opacity and (relative) depth."""
    seen = render_rays(scene, rays, *plain(rays))
    color, opacity, depth = zip(*(scene.expected(slope) for slope in slopes), strict=True)
    return (
        float((seen.color - torch.stack(color)).abs().max()),
        float((seen.opacity - torch.tensor(opacity)).abs().max()),
        float(((seen.depth - torch.tensor(depth)) / torch.tensor(depth)).abs().max()),
    )


@pytest.mark.parametrize("name", SCENES)
def test_rendering_converges_to_the_closed_form(slabs: MakeScene, rays_along: MakeRays, name: str) -> None:
    rays = rays_along(SLOPES)
    assert isinstance(slabs(SCENES[name]), Field)
    coarse = errors(slabs(SCENES[name], num_samples=(48, 24)), rays, SLOPES)
    fine = errors(slabs(SCENES[name], num_samples=(4096, 4096)), rays, SLOPES)
    assert max(fine) < 5e-3
    assert sum(fine) < 0.2 * sum(coarse)


def test_the_nearer_layer_hides_the_farther(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 3.0, 50.0, RED), (5.0, 6.0, 50.0, BLUE)])
    rays = rays_along([1.0])
    seen = render_rays(scene, rays, *plain(rays))
    assert torch.allclose(seen.color, torch.tensor([RED]), atol=5e-3)
    assert float(seen.depth) == pytest.approx(2.0, abs=0.4)


def test_the_sky_shows_where_nothing_is(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 3.0, 50.0, RED)])
    rays = rays_along([-1.0, -0.5, 0.0])
    seen = render_rays(scene, rays, *plain(rays))
    assert torch.allclose(seen.color, scene.sky(rays.directions, *plain(rays)))
    assert torch.equal(seen.opacity, torch.zeros(3))
    assert torch.equal(seen.depth, torch.full((3,), scene.far))


def test_what_lies_before_the_near_end_is_not_seen(slabs: MakeScene, rays_along: MakeRays) -> None:
    rays = rays_along([1.0])
    seen = render_rays(slabs([(0.5, 1.0, 50.0, RED)], near=1.5), rays, *plain(rays))
    assert float(seen.opacity) == 0.0


def test_code_and_exposure_reach_layer_and_sky(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 6.0, 0.3, RED)])
    rays = rays_along([1.0, 1.0])
    code, exposure = torch.tensor([[0.1, 0.0, -0.1], [0.0, 0.0, 0.0]]), torch.tensor([1.0, 0.5])
    color, _, _ = scene.expected()
    seen = render_rays(scene, rays, code, exposure).color
    assert torch.allclose(seen, torch.stack([color + code[0], 0.5 * color]), atol=5e-3)


def test_weights_and_transmittance_are_one_account(slabs: MakeScene, rays_along: MakeRays) -> None:
    rays = rays_along(SLOPES)
    seen = render_rays(slabs(SCENES["red before blue"]), rays, *plain(rays))
    left = seen.transmittance[:, :-1] - seen.weights[:, :-1]
    assert torch.allclose(left, seen.transmittance[:, 1:], atol=1e-5)
    assert torch.allclose(seen.weights.sum(-1), seen.opacity)


def test_jitter_moves_samples_but_not_the_mean(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, count = slabs(SCENES["thin fog"]), 200
    rays = rays_along([1.0] * count)
    seen = render_rays(scene, rays, *plain(rays), generator=torch.Generator().manual_seed(0))
    color, opacity, _ = scene.expected()
    assert seen.opacity.std() > 1e-4
    assert float(seen.opacity.mean()) == pytest.approx(opacity, abs=5e-3)
    assert torch.allclose(seen.color.mean(0), color, atol=5e-3)


def test_proposals_carry_gradients_only_when_asked(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, level = slabs(SCENES["thin fog"], num_samples=(16, 8)), torch.tensor(1.0, requires_grad=True)
    exact, rays = scene.exact, rays_along([1.0])
    scene.exact = lambda points: exact(points) * level
    asked, plainly = (render_rays(scene, rays, *plain(rays), train_proposals=flag) for flag in (True, False))
    assert asked.proposals[0].weights.requires_grad
    assert not plainly.proposals[0].weights.requires_grad


def test_annealing_reaches_the_samples(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 3.0, 50.0, RED)], num_samples=(64, 16)), rays_along([1.0])
    even, gathered = (render_rays(scene, rays, *plain(rays), anneal=anneal).samples.t_mids for anneal in (0.0, 1.0))
    assert even.std() > 3.0 * gathered.std()


def test_fade_gradient_changes_only_the_way_back() -> None:
    values, factor = torch.tensor([1.0, 2.0, 3.0], requires_grad=True), torch.tensor([0.0, 0.25, 1.0])
    faded = scale_gradient(values, factor)
    assert torch.equal(faded, values)
    (faded * torch.tensor([5.0, 6.0, 7.0])).sum().backward()
    assert torch.equal(values.grad, torch.tensor([0.0, 1.5, 7.0]))


def test_gradients_fade_near_the_camera(slabs: MakeScene, rays_along: MakeRays) -> None:
    """The same picture, but density one metre off learns a quarter where fading begins at two metres."""
    rays = rays_along([1.0])
    pictures, slopes = [], []
    for fade in (0.0, 2.0):
        scene, level = slabs([(0.99, 1.01, 0.5, RED)], num_samples=(512, 512)), torch.tensor(1.0, requires_grad=True)
        exact = scene.exact
        scene.exact = lambda points, exact=exact, level=level: exact(points) * level
        seen = render_rays(scene, rays, *plain(rays), gradient_scaling_distance=fade)
        (slope,) = torch.autograd.grad(seen.opacity.sum(), level)
        pictures.append(seen.color.detach())
        slopes.append(float(slope))
    assert torch.equal(pictures[0], pictures[1])
    assert slopes[1] == pytest.approx(0.25 * slopes[0], rel=0.03)
