"""Volume rendering against closed-form results for fog, walls and layers."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.radiance import scale_gradient
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import render_rays

MakeScene = Callable[..., Any]
MakeRays = Callable[[Sequence[float]], RayBundle]
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)
DIRECTIONS_X = (1.0, 0.8, 0.5)


def conditioning(rays: RayBundle) -> tuple[Tensor, Tensor]:
    """A zero appearance code and an exposure of one per ray."""
    return torch.zeros(len(rays), 3), torch.ones(len(rays))


SCENES = {
    "thin fog": [(2.0, 6.0, 0.15, RED)],
    "thick fog": [(3.0, 9.0, 2.0, RED)],
    "wall": [(4.0, 4.5, 60.0, BLUE)],
    "red before blue": [(1.0, 3.0, 0.4, RED), (5.0, 8.0, 0.7, BLUE)],
    "far away": [(40.0, 45.0, 0.3, RED)],
}


def errors(scene: Any, rays: RayBundle, directions_x: Sequence[float]) -> tuple[float, float, float]:
    """Return the maximum errors of color, opacity and (relative) depth."""
    outputs = render_rays(scene, rays, *conditioning(rays))
    color, opacity, depth = zip(*(scene.expected(x) for x in directions_x), strict=True)
    return (
        float((outputs.color - torch.stack(color)).abs().max()),
        float((outputs.opacity - torch.tensor(opacity)).abs().max()),
        float(((outputs.depth - torch.tensor(depth)) / torch.tensor(depth)).abs().max()),
    )


@pytest.mark.parametrize("name", SCENES)
def test_rendering_converges_to_the_closed_form(slabs: MakeScene, rays_along: MakeRays, name: str) -> None:
    rays = rays_along(DIRECTIONS_X)
    assert isinstance(slabs(SCENES[name]), Field)
    coarse = errors(slabs(SCENES[name], num_samples=(48, 24)), rays, DIRECTIONS_X)
    fine = errors(slabs(SCENES[name], num_samples=(4096, 4096)), rays, DIRECTIONS_X)
    assert max(fine) < 5e-3
    assert sum(fine) < 0.2 * sum(coarse)


def test_the_nearer_layer_occludes_the_farther(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 3.0, 50.0, RED), (5.0, 6.0, 50.0, BLUE)])
    rays = rays_along([1.0])
    outputs = render_rays(scene, rays, *conditioning(rays))
    assert torch.allclose(outputs.color, torch.tensor([RED]), atol=5e-3)
    assert float(outputs.depth) == pytest.approx(2.0, abs=0.4)


def test_empty_rays_render_the_sky(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 3.0, 50.0, RED)])
    rays = rays_along([-1.0, -0.5, 0.0])
    outputs = render_rays(scene, rays, *conditioning(rays))
    code, exposure = conditioning(rays)
    assert torch.allclose(outputs.color, scene.expose(scene.sky(rays.directions, code), exposure))
    assert torch.equal(outputs.opacity, torch.zeros(3))
    assert torch.equal(outputs.depth, torch.full((3,), scene.far))


def test_surfaces_before_the_near_end_are_not_rendered(slabs: MakeScene, rays_along: MakeRays) -> None:
    rays = rays_along([1.0])
    outputs = render_rays(slabs([(0.5, 1.0, 50.0, RED)], near=1.5), rays, *conditioning(rays))
    assert float(outputs.opacity) == 0.0


def test_code_and_exposure_affect_layer_and_sky(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene = slabs([(2.0, 6.0, 0.3, RED)])
    rays = rays_along([1.0, 1.0])
    code, exposure = torch.tensor([[0.1, 0.0, -0.1], [0.0, 0.0, 0.0]]), torch.tensor([1.0, 0.5])
    color, _, _ = scene.expected()
    rendered = render_rays(scene, rays, code, exposure).color
    assert torch.allclose(rendered, torch.stack([color + code[0], 0.5 * color]), atol=5e-3)


def test_weights_are_differences_of_transmittance(slabs: MakeScene, rays_along: MakeRays) -> None:
    rays = rays_along(DIRECTIONS_X)
    outputs = render_rays(slabs(SCENES["red before blue"]), rays, *conditioning(rays))
    remaining = outputs.transmittance[:, :-1] - outputs.weights[:, :-1]
    assert torch.allclose(remaining, outputs.transmittance[:, 1:], atol=1e-5)
    assert torch.allclose(outputs.weights.sum(-1), outputs.opacity)


def test_jitter_moves_samples_but_not_the_mean(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, count = slabs(SCENES["thin fog"]), 200
    rays = rays_along([1.0] * count)
    outputs = render_rays(scene, rays, *conditioning(rays), generator=torch.Generator().manual_seed(0))
    color, opacity, _ = scene.expected()
    assert outputs.opacity.std() > 1e-4
    assert float(outputs.opacity.mean()) == pytest.approx(opacity, abs=5e-3)
    assert torch.allclose(outputs.color.mean(0), color, atol=5e-3)


def test_proposals_carry_gradients_only_if_requested(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, level = slabs(SCENES["thin fog"], num_samples=(16, 8)), torch.tensor(1.0, requires_grad=True)
    exact, rays = scene.exact, rays_along([1.0])
    scene.exact = lambda points: exact(points) * level
    trained, fixed = (render_rays(scene, rays, *conditioning(rays), train_proposals=flag) for flag in (True, False))
    assert trained.proposals[0].weights.requires_grad
    assert not fixed.proposals[0].weights.requires_grad


def test_annealing_affects_the_samples(slabs: MakeScene, rays_along: MakeRays) -> None:
    scene, rays = slabs([(2.0, 3.0, 50.0, RED)], num_samples=(64, 16)), rays_along([1.0])
    uniform, concentrated = (
        render_rays(scene, rays, *conditioning(rays), anneal=anneal).samples.t_mids for anneal in (0.0, 1.0)
    )
    assert uniform.std() > 3.0 * concentrated.std()


def test_scale_gradient_changes_only_the_backward_pass() -> None:
    values, factor = torch.tensor([1.0, 2.0, 3.0], requires_grad=True), torch.tensor([0.0, 0.25, 1.0])
    scaled = scale_gradient(values, factor)
    assert torch.equal(scaled, values)
    (scaled * torch.tensor([5.0, 6.0, 7.0])).sum().backward()
    assert torch.equal(values.grad, torch.tensor([0.0, 1.5, 7.0]))


def test_gradients_are_scaled_near_the_camera(slabs: MakeScene, rays_along: MakeRays) -> None:
    """With a scaling distance of 2 m, density at 1 m gets a quarter of the gradient, and the rendering is the same."""
    rays = rays_along([1.0])
    colors, gradients = [], []
    for distance in (0.0, 2.0):
        scene, level = slabs([(0.99, 1.01, 0.5, RED)], num_samples=(512, 512)), torch.tensor(1.0, requires_grad=True)
        exact = scene.exact
        scene.exact = lambda points, exact=exact, level=level: exact(points) * level
        outputs = render_rays(scene, rays, *conditioning(rays), gradient_scaling_distance=distance)
        (gradient,) = torch.autograd.grad(outputs.opacity.sum(), level)
        colors.append(outputs.color.detach())
        gradients.append(float(gradient))
    assert torch.equal(colors[0], colors[1])
    assert gradients[1] == pytest.approx(0.25 * gradients[0], rel=0.03)
