"""The field of a block: protocol, dependencies of outputs, and finite numbers at difficult points."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.fields.block_field import BlockField, OccupancyGrid
from blocknerf.geometry import contract
from blocknerf.rendering.protocol import Field, SupportsMarching
from blocknerf.rendering.rays import render_rays

MakeField = Callable[..., BlockField]
RAYS, SAMPLES = 5, 6


def random_points(field: BlockField, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.rand(RAYS, SAMPLES, 3, generator=generator) * 16.0 - 8.0
    return field.origin + offsets


def random_rays(field: BlockField, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(RAYS, 3, generator=generator), dim=-1)
    return directions, torch.randn(RAYS, field.appearance_dim, generator=generator), torch.full((RAYS,), 0.02)


def test_shapes_match_the_protocol(tiny_field: MakeField) -> None:
    field = tiny_field()
    assert isinstance(field, Field)
    points, (directions, code, _) = random_points(field), random_rays(field)
    density, features = field.density(points, torch.full((RAYS, SAMPLES), 0.01))
    color = field.color(features, directions, code)
    assert density.shape == (RAYS, SAMPLES)
    assert features.shape == (RAYS, SAMPLES, field.spec.geo_feat_dim)
    assert color.shape == (RAYS, SAMPLES, 3)
    assert field.sky(directions, code).shape == (RAYS, 3)
    assert field.visibility(points, directions).shape == (RAYS, SAMPLES)
    assert [proposal(points, density).shape for proposal in field.proposal_density_fns] == [(RAYS, SAMPLES)]
    assert len(field.num_samples) == len(field.proposal_density_fns) + 1
    assert (density > 0).all()
    assert ((color >= 0) & (color <= 1)).all()


def test_density_does_not_depend_on_the_batch_shape(tiny_field: MakeField) -> None:
    field = tiny_field()
    points, footprints = random_points(field), torch.full((RAYS, SAMPLES), 0.01)
    density, _ = field.density(points, footprints)
    flat, _ = field.density(points.reshape(-1, 3), footprints.reshape(-1))
    assert torch.equal(density.reshape(-1), flat)


def test_density_depends_on_position_alone(tiny_field: MakeField) -> None:
    field = tiny_field()
    density, _ = field.density(random_points(field), torch.zeros(RAYS, SAMPLES))
    density.sum().backward()
    with_gradient = {name.split(".")[0] for name, value in field.named_parameters() if value.grad is not None}
    assert with_gradient == {"base"}
    assert density.std() > 0.01 * density.mean()


@pytest.mark.parametrize("changed", ["direction", "code"])
def test_color_and_sky_depend_on(tiny_field: MakeField, changed: str) -> None:
    field = tiny_field()
    _, features = field.density(random_points(field), torch.zeros(RAYS, SAMPLES))
    directions, code, _ = random_rays(field)
    changed_rays = {"direction": (-directions, code), "code": (directions, -code)}[changed]
    colors = [field.color(features, *rays) for rays in ((directions, code), changed_rays)]
    skies = [field.sky(*rays) for rays in ((directions, code), changed_rays)]
    assert (colors[0] - colors[1]).abs().max() > 1e-3
    assert (skies[0] - skies[1]).abs().max() > 1e-3


def test_exposure_is_a_gain_of_the_light(tiny_field: MakeField) -> None:
    """Stops add up, the reference exposure changes nothing, and dark values rise as with a gamma of 2.2."""
    field = tiny_field().requires_grad_(False)
    color = torch.tensor([[0.0, 1e-4, 1e-3], [0.3, 0.7, 0.99], [0.999, 1.0, 0.5]])

    def expose(color: Tensor, stops: float) -> Tensor:
        return field.expose(color, torch.full((3,), field.spec.exposure_reference * 2.0**stops))

    brighter = expose(color, 1.0)
    torch.testing.assert_close(expose(color, 0.0), color)
    torch.testing.assert_close(expose(brighter, 1.0), expose(color, 2.0))
    torch.testing.assert_close(expose(brighter, -1.0), color)
    torch.testing.assert_close(brighter[0], 2.0 ** (1.0 / 2.2) * color[0], rtol=1e-3, atol=0.0)
    assert (brighter >= color).all()
    assert (brighter <= 1.0).all()


@pytest.mark.parametrize("exposure", [0.0, -1.0, 1e-30, 1e30])
def test_extreme_exposures_stay_finite(exposure: float, tiny_field: MakeField) -> None:
    field, color = tiny_field(), torch.tensor([[0.0, 0.5, 1.0]], requires_grad=True)
    exposed = field.expose(color, torch.tensor([exposure]))
    gradients = torch.autograd.grad(exposed.sum(), [color, field.log_response])
    assert ((exposed >= 0.0) & (exposed <= 1.0)).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_gradient_of_color_to_the_code_matches_finite_differences(tiny_field: MakeField) -> None:
    field = tiny_field()
    _, features = field.density(random_points(field), torch.zeros(RAYS, SAMPLES))
    directions, code, _ = random_rays(field)
    code.requires_grad_(True)
    (gradient,) = torch.autograd.grad(field.color(features.detach(), directions, code).sum(), code)
    step = torch.zeros_like(code)
    step[2, 3] = 1e-2
    with torch.no_grad():
        forward, backward = (field.color(features, directions, code + s).sum() for s in (step, -step))
    assert float((forward - backward) / 2e-2) == pytest.approx(float(gradient[2, 3]), rel=2e-2, abs=1e-3)


def test_visibility_is_a_fraction_and_depends_on_direction(tiny_field: MakeField) -> None:
    field = tiny_field()
    points, (directions, _, _) = random_points(field), random_rays(field)
    visibility, opposite = field.visibility(points, directions), field.visibility(points, -directions)
    assert ((visibility > 0) & (visibility < 1)).all()
    assert (visibility - opposite).abs().max() > 1e-4


def difficult_points(half_extent: float) -> Tensor:
    """Offsets from the center: zero, faces, edges and corners of the cube, just inside and outside, and far away."""
    unit = torch.tensor([[0, 0, 0], [1, 0, 0], [0, -1, 0], [1, 1, 0], [-1, 1, -1], [1, 1, 1]], dtype=torch.float32)
    near = torch.cat([unit * scale for scale in (1.0, 1.0 - 1e-6, 1.0 + 1e-6, 1e-20)]) * half_extent
    return torch.cat([near, 1e6 * unit, 1e12 * unit])


@pytest.mark.parametrize("footprint", [0.0, 0.01, 1e9])
def test_difficult_points_have_finite_values_and_gradients(tiny_field: MakeField, footprint: float) -> None:
    field = tiny_field()
    points = (field.origin + difficult_points(field.spec.half_extent)).requires_grad_(True)
    directions, code, _ = (tensor[:1].expand(len(points), *tensor.shape[1:]) for tensor in random_rays(field))
    density, features = field.density(points[:, None], torch.full((len(points), 1), footprint))
    color = field.color(features, directions, code)
    proposal = field.proposal_density_fns[0](points[:, None], torch.full((len(points), 1), footprint))
    visibility = field.visibility(points[:, None], directions)
    with torch.no_grad():
        again, _ = field.density(points.detach()[:, None], torch.full((len(points), 1), footprint))
    assert torch.allclose(again, density, rtol=1e-3)
    outputs = (density, color, proposal, visibility)
    assert all(torch.isfinite(value).all() for value in outputs)
    sum(value.sum() for value in outputs).backward()
    assert torch.isfinite(points.grad).all()
    assert all(torch.isfinite(value.grad).all() for value in field.parameters() if value.grad is not None)


def test_the_contracted_cube_contains_all_points(tiny_field: MakeField) -> None:
    field = tiny_field()
    points = field.origin + difficult_points(field.spec.half_extent)
    cube, _ = field.contract_to_unit_cube(points, torch.zeros(len(points)))
    assert ((cube >= 0) & (cube <= 1)).all()
    assert torch.equal(cube[0], torch.full((3,), 0.5))
    assert torch.allclose(cube[1], torch.tensor([0.75, 0.5, 0.5]))


@pytest.mark.parametrize("distance", [0.5, 1.5, 20.0])
def test_footprints_shrink_like_lengths_across_the_ray(tiny_field: MakeField, distance: float) -> None:
    field = tiny_field()
    offsets = torch.tensor([[0.0, 0.0, 0.0], [distance * field.spec.half_extent, 0.0, 0.0]])
    _, stds = field.contract_to_unit_cube(field.origin + offsets, torch.tensor([0.3, 0.3]))
    outward = torch.tensor([[distance, 0.0, 0.0]], dtype=torch.float64)
    across = torch.tensor([[0.0, 1e-6, 0.0]], dtype=torch.float64)
    derivative = (contract(outward + across) - contract(outward - across))[0, 1] / 2e-6
    assert float(stds[1] / stds[0]) == pytest.approx(float(derivative), rel=1e-4)


def test_footprints_are_in_the_units_of_points(tiny_field: MakeField) -> None:
    field = tiny_field()
    offsets = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]])
    cube, stds = field.contract_to_unit_cube(field.origin + offsets, torch.tensor([0.3, 0.0]))
    # The standard deviation of a cone is half the radius of its disc.
    assert float(stds[0]) == pytest.approx(0.5 * float(cube[1, 0] - cube[0, 0]), rel=1e-3)
    assert float(stds[1]) == 0.0


def test_wide_footprints_blur_the_density(tiny_field: MakeField) -> None:
    field = tiny_field()
    line = torch.linspace(-4.0, 4.0, 400)[:, None] * torch.tensor([0.6, 0.8, 0.0])
    sharp, _ = field.density(field.origin + line, torch.zeros(400))
    blurred, _ = field.density(field.origin + line, torch.full((400,), 5.0))
    assert blurred.log().diff().abs().mean() < 0.3 * sharp.log().diff().abs().mean()


def test_density_scales_with_the_size_of_the_block(tiny_field: MakeField) -> None:
    small, large = tiny_field(), tiny_field(half_extent=50.0)
    offsets = torch.rand(20, 3) * 8.0 - 4.0
    near, _ = small.density(small.origin + offsets, torch.zeros(20))
    far, _ = large.density(large.origin + 10.0 * offsets, torch.zeros(20))
    assert torch.allclose(near, 10.0 * far, rtol=1e-2)


def test_mean_code_of_named_frames(tiny_field: MakeField) -> None:
    field = tiny_field()
    assert torch.allclose(field.mean_appearance_code(), field.appearance_codes.detach().mean(0))
    assert torch.equal(field.mean_appearance_code(["b.png"]), field.appearance_codes.detach()[1])
    assert torch.allclose(
        field.mean_appearance_code(["c.png", "a.png"]), field.appearance_codes.detach()[[0, 2]].mean(0)
    )
    assert not field.mean_appearance_code().requires_grad


def test_a_field_depends_only_on_the_seed(tiny_field: MakeField) -> None:
    first, same_seed, other_seed = (tiny_field(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same_seed[name]) for name in first)
    assert not all(torch.equal(first[name], other_seed[name]) for name in first)


def ray_bundle(field: BlockField, count: int) -> RayBundle:
    generator = torch.Generator().manual_seed(count)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    origins = field.origin + torch.randn(count, 3, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=torch.full((count,), 0.005))


@pytest.mark.parametrize("grid", [None, True])
def test_march_matches_generic_rendering(tiny_field: MakeField, grid: bool | None) -> None:
    """Every ray has its own code and exposure; a full grid skips nothing."""
    field = tiny_field().requires_grad_(False)
    with torch.no_grad():
        for network in (field.base.network, field.proposals[0].network):
            network.layers[-1].weight[0] *= 30.0
    if grid is not None:
        field.set_occupancy(OccupancyGrid(torch.ones(4, 4, 4, dtype=torch.bool), field.spec.origin, 5.0))
    rays, generator = ray_bundle(field, 300), torch.Generator().manual_seed(0)
    code, exposure = (
        torch.randn(300, field.appearance_dim, generator=generator),
        0.1 * torch.rand(300, generator=generator),
    )
    expected = render_rays(field, rays, code, exposure)
    color, depth, opacity = field.march(rays, code, exposure)
    assert isinstance(field, SupportsMarching)
    assert float(opacity.min()) < 0.9
    assert float(opacity.max()) == pytest.approx(1.0)
    pairs = ((color, expected.color, 1.0), (opacity, expected.opacity, 1.0), (depth, expected.depth, field.far))
    for result, reference, scale in pairs:
        assert float((result - reference).abs().max()) < 0.01 * scale
        assert float((result - reference).abs().mean()) < 0.001 * scale


def test_an_empty_grid_renders_only_sky(tiny_field: MakeField) -> None:
    field, (directions, code, exposure) = tiny_field(), random_rays(tiny_field())
    field.set_occupancy(OccupancyGrid(torch.zeros(4, 4, 4, dtype=torch.bool), field.spec.origin, 5.0))
    rays = RayBundle(origins=field.origin.expand(RAYS, 3), directions=directions, pixel_radii=torch.full((RAYS,), 0.01))
    color, depth, _ = field.march(rays, code, exposure)
    torch.testing.assert_close(color, field.expose(field.sky(directions, code), exposure))
    torch.testing.assert_close(depth, torch.full((RAYS,), field.far))
    assert not color.requires_grad


def test_the_grid_of_another_block_is_rejected_and_grids_are_not_in_the_state(tiny_field: MakeField) -> None:
    field = tiny_field()
    cells = torch.zeros(4, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="is not this field's"):
        field.set_occupancy(OccupancyGrid(cells, (0.0, 0.0, 0.0), 5.0))
    before = set(field.state_dict())
    field.set_occupancy(OccupancyGrid(cells, field.spec.origin, field.spec.half_extent))
    assert set(field.state_dict()) == before
