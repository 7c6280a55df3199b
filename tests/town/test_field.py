"""The field against the ray caster: volume renderings of the field match ray casts."""

import pytest
import torch

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.rendering.image import render_image
from blocknerf.rendering.protocol import Field
from blocknerf.town.field import TownField
from blocknerf.town.lighting import EXPOSURES, TIMES_OF_DAY, TimeOfDay
from blocknerf.town.town import Town


@pytest.fixture(scope="module")
def field(town: Town) -> TownField:
    return TownField(town)


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return -10 * (first - second).square().mean().log10().item()


def random_rays(view: Cameras, count: int) -> RayBundle:
    indices = torch.randperm(64 * 36, generator=torch.Generator().manual_seed(2))[:count]
    rays = view.generate_rays(0).flatten()[indices]
    # Thin rays: the depth error of grazing rays grows with the footprint.
    return RayBundle(
        origins=rays.origins.double(),
        directions=rays.directions.double(),
        pixel_radii=torch.full((count,), 1e-3).double(),
    )


def test_the_town_implements_field(field: TownField) -> None:
    assert isinstance(field, Field)
    assert len(field.proposal_density_fns) + 1 == len(field.num_samples)


@pytest.mark.parametrize("hour", ["noon", "dusk"])
def test_dense_quadrature_matches_ray_casts(town: Town, field: TownField, view: Cameras, hour: TimeOfDay) -> None:
    rays = random_rays(view, 60)
    truth = town.raycast(rays, hour, EXPOSURES[hour])
    # No samples far behind the first surface: it is opaque, and they would dominate the cost.
    end = truth.depth.double().clamp_max(40.0) + 2.0
    t_edges = 0.1 + (end[:, None] - 0.1) * torch.linspace(0.0, 1.0, 3001).double()
    t_mids = 0.5 * (t_edges[:, 1:] + t_edges[:, :-1])
    points = rays.origins[:, None] + t_mids[..., None] * rays.directions[:, None]
    density, features = field.density(points, t_mids * rays.pixel_radii[:, None])
    thickness = density * t_edges.diff(dim=1)
    transmittance = torch.exp(-(thickness.cumsum(1) - thickness))
    weights = transmittance * -torch.expm1(-thickness)
    count = len(rays)
    codes, exposure = field.code(hour).double().expand(count, -1), torch.full((count,), EXPOSURES[hour]).double()
    remaining = 1 - weights.sum(1)
    radiance = (weights[..., None] * field.color(features, rays.directions, codes)).sum(1)
    radiance = radiance + remaining[:, None] * field.sky(rays.directions, codes)
    color = field.expose(radiance, exposure)
    depth = (weights * t_mids).sum(1)
    near = truth.depth < 40.0
    assert near.float().mean() > 0.6
    assert remaining[near].max() < 1e-2
    assert remaining[truth.depth.isinf()].min() > 1 - 1e-6
    error = (depth - truth.depth)[near]
    # The depth is late by a fraction of `surface_thickness`, more for grazing rays, and never early.
    assert error.min() > -0.02
    assert (error / truth.depth[near]).median() < 0.01
    comparable = near | truth.depth.isinf()
    assert (color - truth.color)[comparable].abs().mean() < 0.02
    assert psnr(color[comparable].float(), truth.color[comparable]) > 28.0


def test_rendering_with_proposals_matches_ray_casts(town: Town, field: TownField, view: Cameras) -> None:
    rendering = render_image(field, view.generate_rays(0), field.code("noon"), EXPOSURES["noon"])
    truth = town.render(view, 0, "noon", EXPOSURES["noon"], supersample=1)
    assert psnr(rendering.color, truth.color) > 24.0
    ratio = rendering.depth / truth.depth.clamp_max(field.far)
    assert ((ratio - 1).abs() < 0.03).float().mean() > 0.9


def test_codes_blend_lightings_and_have_gradients(town: Town, field: TownField, view: Cameras) -> None:
    rays = random_rays(view, 200)
    depth = town.measure(rays)
    rays, depth = rays[depth < 60.0], depth[depth < 60.0]
    points = (rays.origins + (depth + 0.01)[:, None] * rays.directions)[:, None]
    _, features = field.density(points, torch.full((len(points), 1), 0.01).double())
    exposure = torch.full((len(points),), 600.0).double()

    def color(code: torch.Tensor) -> torch.Tensor:
        radiance = field.color(features, rays.directions, code.double().expand(len(points), -1))
        return field.expose(radiance[:, 0], exposure)

    noon, dusk = color(field.code("noon")), color(field.code("dusk"))
    between = color(0.5 * (field.code("noon") + field.code("dusk")))
    assert (between >= torch.minimum(noon, dusk) - 1e-9).all()
    assert (between <= torch.maximum(noon, dusk) + 1e-9).all()
    code = torch.full((3,), 1 / 3, requires_grad=True)
    color(code).mean().backward()
    assert code.grad is not None
    assert (code.grad > 0).all()


def test_visibility_of_road_and_houses(field: TownField) -> None:
    road, facade, behind = (0.0, -1.6, -0.001), (3.0, 8.4, 5.0), (3.0, 27.0, 3.0)
    points = torch.tensor([[road], [facade], [behind]])
    down, north = (0.9, 0.0, -0.43), (0.3, 0.9, 0.3)
    directions = torch.nn.functional.normalize(torch.tensor([down, north, north]), dim=-1)
    assert field.visibility(points, directions)[:, 0].tolist() == [1.0, 1.0, 0.0]
    # No camera sees the facade from inside the house.
    assert field.visibility(points[1:2], -directions[1:2]).item() == 0.0


def test_codes_are_one_hot_per_time_of_day(field: TownField) -> None:
    assert torch.equal(torch.stack([field.code(hour) for hour in TIMES_OF_DAY]), torch.eye(3))
