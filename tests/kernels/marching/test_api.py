"""Ray marching: properties of the reference, and the other backends against it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.errors import BackendError
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.backends import BackendWarning
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.marching import MIN_TRANSMITTANCE, FieldParams, march, raise_std
from blocknerf.kernels.marching.torch_impl import early_stop_weights
from blocknerf.kernels.radiance import ColorParams, HashGridParams
from tests.kernels.interpreted import needs_triton, prefer_triton

ORIGIN, HALF, FAR = (10.0, -20.0, 2.0), 5.0, 500.0


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
    min_std: Tensor | None = None,
) -> FieldParams:
    """Random networks of a small block. `shift` is added to density logits; 4 makes most rays end within the block."""
    generator = torch.Generator().manual_seed(0)
    coarse = GridSpec(num_levels=2, features_per_level=2, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
    fine = GridSpec(num_levels=3, features_per_level=4, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
    proposal, field = grid_layers(coarse, [16, 1], generator), grid_layers(fine, [hidden, outputs], generator)
    for part in (proposal, field):
        part.weights[-1][0] *= 3.0
        part.biases[-1][0] += shift
    color_weights, color_biases = layers([outputs, hidden, hidden, 3], generator)
    return FieldParams(
        proposal=proposal, field=field, color=ColorParams(weights=color_weights, biases=color_biases), origin=ORIGIN,
        half_extent=HALF, spacing=RaySpacing(near=0.1, far=FAR, linear_until=HALF), proposal_samples=counts[0],
        samples=counts[1], occupancy=cells, min_std=min_std,
    )  # fmt: skip


def make_rays(count: int, distance: float = 1.0, hidden: int = 16) -> tuple[RayBundle, Tensor, Tensor]:
    """Rays starting within `distance` half extents of the block's center, with biases and sky colors."""
    generator = torch.Generator().manual_seed(count)
    origins = torch.tensor(ORIGIN) + HALF * distance * (2.0 * torch.rand(count, 3, generator=generator) - 1.0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    radii = 0.01 * torch.rand(count, generator=generator)
    bias = torch.randn(count, hidden, generator=generator)
    return RayBundle(origins=origins, directions=directions, pixel_radii=radii), bias, torch.rand(count, 3)


def assert_same(network: FieldParams, rays: RayBundle, bias: Tensor, sky: Tensor) -> None:
    """Compare numba with the reference. They may end a ray one sample apart where transmittance is at its threshold."""
    numba = march(network, rays, bias, sky, backend="numba")
    reference = march(network, rays, bias, sky, backend="torch")
    for name, value, expected in zip(("color", "depth", "opacity"), numba, reference, strict=True):
        scale = FAR if name == "depth" else 1.0
        error = (value - expected).abs() / scale
        assert value.shape == expected.shape
        assert value.numel() == 0 or (float(error.max()) < 1.5 * MIN_TRANSMITTANCE and float(error.mean()) < 1e-4), name


def random_limits(side: int) -> Tensor:
    """Lower limits of standard deviations in the range in which levels fade."""
    return 0.1 * torch.rand(side, side, side, generator=torch.Generator().manual_seed(side))


CELLS = {
    "unknown": None,
    "full": torch.ones(8, 8, 8, dtype=torch.bool),
    "empty": torch.zeros(8, 8, 8, dtype=torch.bool),
    "mixed": torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(5)) < 0.5,
}


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 600])
@pytest.mark.parametrize("cells", CELLS)
def test_numba_matches_reference(count: int, cells: str) -> None:
    assert_same(make_network(CELLS[cells]), *make_rays(count))


@pytest.mark.parametrize("side", [1, 2, 7])
@pytest.mark.parametrize("distance", [1.0, 1e5])
def test_numba_matches_reference_with_a_lower_limit_of_footprints(side: int, distance: float) -> None:
    assert_same(make_network(CELLS["mixed"], shift=2.0, min_std=random_limits(side)), *make_rays(300, distance))


@needs_triton
@pytest.mark.parametrize("side", [None, 1, 7])
@pytest.mark.parametrize("cells", ["unknown", "mixed"])
@pytest.mark.parametrize("count", [0, 1, 33])
def test_triton_matches_reference(count: int, cells: str, side: int | None) -> None:
    """In half precision, and including colors of samples that the reference discards."""
    limits = None if side is None else random_limits(side)
    arguments = make_network(CELLS[cells], shift=4.0, min_std=limits), *make_rays(count)
    triton, reference = (march(*arguments, backend=backend) for backend in ("triton", "torch"))
    for name, value, expected in zip(("color", "depth", "opacity"), triton, reference, strict=True):
        error = (value - expected).abs() / (FAR if name == "depth" else 1.0)
        assert value.shape == expected.shape
        assert count == 0 or (float(error.max()) < 1.5 * MIN_TRANSMITTANCE and float(error.mean()) < 3e-4), name


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_lower_limit_of_footprints_equals_larger_pixels(backend: str) -> None:
    """A limit above all footprints renders as pixels do that are larger everywhere; one below all has no effect."""
    rays, bias, sky = make_rays(200, distance=0.0)
    tiny, huge = (replace(rays, pixel_radii=torch.full((200,), radius)) for radius in (0.0, 1e3))
    limit = torch.full((3, 3, 3), 50.0)
    limited, large, sharp = (
        march(make_network(shift=2.0, min_std=part), pixels, bias, sky, backend=backend)[0]
        for part, pixels in ((limit, tiny), (None, huge), (None, rays))
    )
    torch.testing.assert_close(limited, large, atol=2e-2, rtol=0.0)
    assert float((limited - sharp).abs().mean()) > 0.02
    no_effect = march(make_network(shift=2.0, min_std=torch.zeros(3, 3, 3)), rays, bias, sky, backend=backend)[0]
    torch.testing.assert_close(no_effect, sharp)


def test_the_limit_is_interpolated_between_centers_of_cells() -> None:
    limits = torch.zeros(4, 4, 4)
    limits[2] = 0.8
    x = torch.tensor([0.0, 0.375, 0.5, 0.625, 0.8125, 1.0])
    cube = torch.stack([x, torch.full_like(x, 0.3), torch.full_like(x, 0.9)], -1)
    expected = torch.tensor([0.1, 0.1, 0.4, 0.8, 0.2, 0.1])
    torch.testing.assert_close(raise_std(torch.full((6,), 0.1), cube, limits), expected)


def test_inactive_levels_match() -> None:
    full = make_network()
    coarse = replace(full, field=replace(full.field, active_levels=1.5))
    rays, bias, sky = make_rays(200)
    assert_same(coarse, rays, bias, sky)
    assert float((march(coarse, rays, bias, sky)[0] - march(full, rays, bias, sky)[0]).abs().max()) > 0.01


@pytest.mark.parametrize("shift", [-6.0, 4.0, 30.0])
@pytest.mark.parametrize("distance", [0.0, 1.0, 30.0, 1e5])
def test_thin_and_thick_fields_from_inside_and_outside(shift: float, distance: float) -> None:
    assert_same(make_network(CELLS["mixed"], shift=shift), *make_rays(200, distance))


@pytest.mark.parametrize("counts", [(1, 1), (5, 7), (8, 16), (48, 24)])
@pytest.mark.parametrize(("hidden", "outputs"), [(16, 16), (20, 5), (64, 33)])
def test_any_sample_count_and_width(counts: tuple[int, int], hidden: int, outputs: int) -> None:
    network = make_network(counts=counts, hidden=hidden, outputs=outputs, shift=2.0)
    assert_same(network, *make_rays(100, hidden=hidden))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_empty_block_shows_the_sky(backend: str) -> None:
    rays, bias, sky = make_rays(70)
    color, depth, opacity = march(make_network(CELLS["empty"], shift=9.0), rays, bias, sky, backend=backend)
    torch.testing.assert_close(color, sky)
    assert torch.equal(opacity, torch.zeros(70))
    torch.testing.assert_close(depth, torch.full((70,), FAR))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_opaque_wall_hides_the_sky(backend: str) -> None:
    rays, bias, sky = make_rays(70)
    network = make_network(shift=30.0)
    first, second = (march(network, rays, bias, background, backend=backend) for background in (sky, 1.0 - sky))
    torch.testing.assert_close(first[0], second[0], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(first[2], torch.ones(70))
    assert float(first[1].max()) < 0.1 * FAR


def test_occupancy_cells_match_point_positions() -> None:
    """With only the upper half of the x axis occupied, rays toward the other side hit nothing."""
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[4:] = True
    rays, bias, sky = make_rays(200, distance=0.0)
    for backend in ("numba", "torch"):
        _, _, opacity = march(make_network(cells, shift=9.0), rays, bias, sky, backend=backend)
        assert float(opacity[rays.directions[:, 0] < 0].max()) == 0.0
        assert float(opacity[rays.directions[:, 0] > 0].min()) > 0.9


def test_weights_end_at_minimum_transmittance() -> None:
    thickness = 3.0 * torch.rand(500, 20, generator=torch.Generator().manual_seed(0)) ** 4
    weights = early_stop_weights(thickness, torch.arange(21.0).expand(500, -1))
    exact = torch.exp(-(thickness.cumsum(-1) - thickness)) * -torch.expm1(-thickness)
    assert float((weights - exact).abs().max()) < MIN_TRANSMITTANCE
    remaining = 1.0 - weights.sum(-1)
    ended = torch.exp(-thickness[:, :-1].sum(-1)) < MIN_TRANSMITTANCE
    assert ended.any()
    assert not ended.all()
    assert float(remaining[ended].abs().max()) < 1e-5
    torch.testing.assert_close(remaining[~ended], torch.exp(-thickness.sum(-1))[~ended], atol=1e-6, rtol=0.0)


def test_faint_samples_take_the_mean_color() -> None:
    """Samples without their own color still count in opacity."""
    rays, bias, _ = make_rays(100)
    network = make_network(counts=(24, 64), shift=3.0)
    white = replace(network, color=replace(network.color, biases=(*network.color.biases[:2], torch.full((3,), 50.0))))
    color, _, opacity = march(white, rays, bias, torch.zeros(100, 3))
    visible = opacity > MIN_TRANSMITTANCE
    torch.testing.assert_close(color[visible], opacity[visible, None].expand(-1, 3), atol=1e-5, rtol=0.0)


def convert_network(network: FieldParams, device: str, dtype: torch.dtype) -> FieldParams:
    """Return the network on another device or with another dtype."""
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
        network,
        **parts,
        color=color,
        occupancy=None if network.occupancy is None else network.occupancy.to(device),
        min_std=None if network.min_std is None else network.min_std.to(device),
    )


def convert_rays(rays: RayBundle, device: str, dtype: torch.dtype) -> RayBundle:
    parts = (part.to(device, dtype) for part in (rays.origins, rays.directions, rays.pixel_radii))
    return RayBundle(**dict(zip(("origins", "directions", "pixel_radii"), parts, strict=True)))


def test_double_precision_uses_the_reference() -> None:
    rays, bias, sky = make_rays(50)
    network = make_network(CELLS["mixed"], shift=2.0)
    network64, rays64 = convert_network(network, "cpu", torch.float64), convert_rays(rays, "cpu", torch.float64)
    precise = network64, rays64, bias.double(), sky.double()
    color, _, _ = march(*precise)
    assert color.dtype == torch.float64
    torch.testing.assert_close(
        color.float(), march(network, rays, bias, sky)[0], atol=1.5 * MIN_TRANSMITTANCE, rtol=0.0
    )
    with pytest.raises(BackendError, match="float32 only"):
        march(*precise, backend="numba")


def test_other_device_does_not_use_the_cpu() -> None:
    rays, bias, sky = make_rays(50)
    network = convert_network(make_network(CELLS["mixed"]), "meta", torch.float32)
    results = march(network, convert_rays(rays, "meta", torch.float32), bias.to("meta"), sky.to("meta"))
    assert [result.device.type for result in results] == ["meta"] * 3
    assert [tuple(result.shape) for result in results] == [(50, 3), (50,), (50,)]


@needs_triton
def test_unsupported_networks_raise_if_requested_and_warn_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = make_network(hidden=24), *make_rays(3, hidden=24)
    limit = "given color layers of width 24, but 'triton' supports only .* 3 color layers of width 16, 32 or 64"
    with pytest.raises(BackendError, match=f"marching: backend 'triton' cannot be used: {limit}"):
        march(*arguments, backend="triton")
    prefer_triton(monkeypatch)
    with pytest.warns(BackendWarning, match=f"marching: 'torch' runs instead of 'triton': {limit}"):
        result = march(*arguments)
    for value, expected in zip(result, march(*arguments, backend="torch"), strict=True):
        assert torch.equal(value, expected)
