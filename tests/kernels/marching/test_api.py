"""Marching rays: the native backend against the reference, and what the reference is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.errors import BackendError
from blocknerf.kernels.backends import BackendWarning
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.marching import FieldParams, march
from blocknerf.kernels.marching.params import STEP
from blocknerf.kernels.marching.torch_impl import stopping_weights
from blocknerf.kernels.radiance import ColorParams, HashGridParams
from blocknerf.ray_spacing import RaySpacing
from tests.kernels.interpreted import needs_triton, prefer_fused

PLACE, HALF, FAR = (10.0, -20.0, 2.0), 5.0, 500.0


def layers(widths: Sequence[int], generator: torch.Generator) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shapes = list(zip(widths[1:], widths, strict=False))
    weights = tuple(torch.randn(shape, generator=generator) / shape[1] ** 0.5 for shape in shapes)
    return weights, tuple(0.3 * torch.randn(width, generator=generator) for width in widths[1:])


def grid_layers(grid: GridSpec, widths: Sequence[int], generator: torch.Generator) -> HashGridParams:
    weights, biases = layers((grid.output_dim, *widths), generator)
    table = 3.0 * torch.randn(grid.num_entries, grid.features_per_level, generator=generator)
    return HashGridParams(grid=grid, table=table, weights=weights, biases=biases)


def make_network(
    cells: Tensor | None = None,
    *,
    counts: tuple[int, int] = (12, 8),
    hidden: int = 16,
    outputs: int = 16,
    shift: float = 0.0,
) -> FieldParams:
    """Random networks of a small block; `shift` is added to the logits of density, 4 makes most rays end in sight."""
    generator = torch.Generator().manual_seed(0)
    coarse = GridSpec(num_levels=2, features_per_level=2, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
    fine = GridSpec(num_levels=3, features_per_level=4, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
    proposal, field = grid_layers(coarse, [16, 1], generator), grid_layers(fine, [hidden, outputs], generator)
    for part in (proposal, field):
        part.weights[-1][0] *= 3.0
        part.biases[-1][0] += shift
    color_weights, color_biases = layers([outputs, hidden, hidden, 3], generator)
    return FieldParams(
        proposal=proposal, field=field, color=ColorParams(weights=color_weights, biases=color_biases), origin=PLACE,
        half_extent=HALF, spacing=RaySpacing(near=0.1, far=FAR, linear_until=HALF), proposal_samples=counts[0], samples=counts[1],
        occupancy=cells,
    )  # fmt: skip


def make_rays(count: int, reach: float = 1.0, hidden: int = 16) -> tuple[RayBundle, Tensor, Tensor]:
    """Rays from within `reach` half extents of the block's middle, with their biases and skies."""
    generator = torch.Generator().manual_seed(count)
    origins = torch.tensor(PLACE) + HALF * reach * (2.0 * torch.rand(count, 3, generator=generator) - 1.0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    radii = 0.01 * torch.rand(count, generator=generator)
    bias = torch.randn(count, hidden, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=radii), bias, torch.rand(count, 3)


def assert_same(network: FieldParams, rays: RayBundle, bias: Tensor, sky: Tensor) -> None:
    """The backends agree; where light is just about spent they may end a ray a sample apart."""
    native = march(network, rays, bias, sky, backend="numba")
    reference = march(network, rays, bias, sky, backend="torch")
    for name, one, other in zip(("color", "depth", "opacity"), native, reference, strict=True):
        scale = FAR if name == "depth" else 1.0
        error = (one - other).abs() / scale
        assert one.shape == other.shape
        assert one.numel() == 0 or (float(error.max()) < 1.5 * STEP and float(error.mean()) < 1e-4), name


CELLS = {
    "unknown": None,
    "full": torch.ones(8, 8, 8, dtype=torch.bool),
    "empty": torch.zeros(8, 8, 8, dtype=torch.bool),
    "mixed": torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(5)) < 0.5,
}


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 600])
@pytest.mark.parametrize("cells", CELLS)
def test_native_matches_reference(count: int, cells: str) -> None:
    assert_same(make_network(CELLS[cells]), *make_rays(count))


@needs_triton
@pytest.mark.parametrize("cells", ["unknown", "mixed"])
@pytest.mark.parametrize("count", [0, 1, 33])
def test_fused_shows_what_the_reference_does(count: int, cells: str) -> None:
    """In half precision, and with the colors of samples that the reference leaves out."""
    given = make_network(CELLS[cells], shift=4.0), *make_rays(count)
    fused, reference = (march(*given, backend=backend) for backend in ("triton", "torch"))
    for name, one, other in zip(("color", "depth", "opacity"), fused, reference, strict=True):
        error = (one - other).abs() / (FAR if name == "depth" else 1.0)
        assert one.shape == other.shape
        assert count == 0 or (float(error.max()) < 1.5 * STEP and float(error.mean()) < 3e-4), name


def test_levels_that_are_off_are_off_in_both() -> None:
    whole = make_network()
    coarse = replace(whole, field=replace(whole.field, active_levels=1.5))
    rays, bias, sky = make_rays(200)
    assert_same(coarse, rays, bias, sky)
    assert float((march(coarse, rays, bias, sky)[0] - march(whole, rays, bias, sky)[0]).abs().max()) > 0.01


@pytest.mark.parametrize("shift", [-6.0, 4.0, 30.0])
@pytest.mark.parametrize("reach", [0.0, 1.0, 30.0, 1e5])
def test_thin_and_thick_fields_from_inside_and_outside(shift: float, reach: float) -> None:
    assert_same(make_network(CELLS["mixed"], shift=shift), *make_rays(200, reach))


@pytest.mark.parametrize("counts", [(1, 1), (5, 7), (8, 16), (48, 24)])
@pytest.mark.parametrize(("hidden", "outputs"), [(16, 16), (20, 5), (64, 33)])
def test_any_number_of_samples_and_any_width(counts: tuple[int, int], hidden: int, outputs: int) -> None:
    network = make_network(counts=counts, hidden=hidden, outputs=outputs, shift=2.0)
    assert_same(network, *make_rays(100, hidden=hidden))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_an_empty_block_shows_the_sky(backend: str) -> None:
    rays, bias, sky = make_rays(70)
    color, depth, opacity = march(make_network(CELLS["empty"], shift=9.0), rays, bias, sky, backend=backend)
    torch.testing.assert_close(color, sky)
    assert torch.equal(opacity, torch.zeros(70))
    torch.testing.assert_close(depth, torch.full((70,), FAR))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_no_sky_shines_through_a_wall(backend: str) -> None:
    rays, bias, sky = make_rays(70)
    network = make_network(shift=30.0)
    first, second = (march(network, rays, bias, light, backend=backend) for light in (sky, 1.0 - sky))
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(first[2], torch.ones(70))
    assert float(first[1].max()) < 0.1 * FAR


def test_empty_cells_are_where_the_points_are() -> None:
    """With only the far half of one axis full, rays that look the other way see nothing."""
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[4:] = True
    rays, bias, sky = make_rays(200, reach=0.0)
    for backend in ("numba", "torch"):
        _, _, opacity = march(make_network(cells, shift=9.0), rays, bias, sky, backend=backend)
        assert float(opacity[rays.directions[:, 0] < 0].max()) == 0.0
        assert float(opacity[rays.directions[:, 0] > 0].min()) > 0.9


def test_weights_end_where_light_is_spent() -> None:
    thickness = 3.0 * torch.rand(500, 20, generator=torch.Generator().manual_seed(0)) ** 4
    weights = stopping_weights(thickness)
    exact = torch.exp(-(thickness.cumsum(-1) - thickness)) * -torch.expm1(-thickness)
    assert float((weights - exact).abs().max()) < STEP
    left = 1.0 - weights.sum(-1)
    spent = torch.exp(-thickness[:, :-1].sum(-1)) < STEP
    assert spent.any()
    assert not spent.all()
    assert float(left[spent].abs().max()) < 1e-5
    torch.testing.assert_close(left[~spent], torch.exp(-thickness.sum(-1))[~spent], atol=1e-6, rtol=0.0)


def test_faint_samples_take_the_color_of_the_others() -> None:
    """What is left out of the colors is not left out of the light."""
    rays, bias, _ = make_rays(100)
    network = make_network(counts=(24, 64), shift=3.0)
    white = replace(network, color=replace(network.color, biases=(*network.color.biases[:2], torch.full((3,), 50.0))))
    color, _, opacity = march(white, rays, bias, torch.zeros(100, 3))
    seen = opacity > STEP
    torch.testing.assert_close(color[seen], opacity[seen, None].expand(-1, 3), atol=1e-5, rtol=0.0)


def moved(network: FieldParams, device: str, dtype: torch.dtype) -> FieldParams:
    """The network elsewhere or otherwise."""
    parts = {
        name: replace(
            part,
            table=part.table.to(device, dtype),
            weights=tuple(weight.to(device, dtype) for weight in part.weights),
            biases=tuple(bias.to(device, dtype) for bias in part.biases),
        )
        for name, part in (("proposal", network.proposal), ("field", network.field))
    }
    color = ColorParams(
        weights=tuple(weight.to(device, dtype) for weight in network.color.weights),
        biases=tuple(bias.to(device, dtype) for bias in network.color.biases),
    )
    return replace(
        network, **parts, color=color, occupancy=None if network.occupancy is None else network.occupancy.to(device)
    )


def move_rays(rays: RayBundle, device: str, dtype: torch.dtype) -> RayBundle:
    parts = (part.to(device, dtype) for part in (rays.origins, rays.directions, rays.pixel_radii))
    return RayBundle(**dict(zip(("origins", "directions", "radii"), parts, strict=True)))


def test_double_precision_takes_the_reference() -> None:
    rays, bias, sky = make_rays(50)
    network = make_network(CELLS["mixed"], shift=2.0)
    precise = moved(network, "cpu", torch.float64), move_rays(rays, "cpu", torch.float64), bias.double(), sky.double()
    color, _, _ = march(*precise)
    assert color.dtype == torch.float64
    torch.testing.assert_close(color.float(), march(network, rays, bias, sky)[0], atol=1.5 * STEP, rtol=0.0)
    with pytest.raises(BackendError, match="float32 only"):
        march(*precise, backend="numba")


def test_on_another_device_nothing_touches_the_processor() -> None:
    rays, bias, sky = make_rays(50)
    network = moved(make_network(CELLS["mixed"]), "meta", torch.float32)
    results = march(network, move_rays(rays, "meta", torch.float32), bias.to("meta"), sky.to("meta"))
    assert [result.device.type for result in results] == ["meta"] * 3
    assert [tuple(result.shape) for result in results] == [(50, 3), (50,), (50,)]


@needs_triton
def test_networks_that_the_fused_kernels_do_not_take_are_refused_by_name_and_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = make_network(hidden=24), *make_rays(3, hidden=24)
    limit = "given color layers of 24, and 'triton' takes .* 3 color layers of 16, 32 or 64"
    with pytest.raises(BackendError, match=f"marching: backend 'triton' cannot be used: {limit}"):
        march(*given, backend="triton")
    prefer_fused(monkeypatch)
    with pytest.warns(BackendWarning, match=f"marching: 'torch' runs instead of 'triton': {limit}"):
        found = march(*given)
    for one, other in zip(found, march(*given, backend="torch"), strict=True):
        assert torch.equal(one, other)
