"""Hash-grid MLP and radiance: the triton kernels, interpreted, against the reference."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.backends import Backend, BackendWarning
from blocknerf.kernels.devices import HALF_MAX
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.radiance import ColorParams, HashGridParams, grid_network, radiance, unfit
from tests.kernels.interpreted import needs_triton, prefer_triton, triton_param

SPEC = GridSpec(num_levels=3, features_per_level=4, log2_hashmap_size=9, base_resolution=4, max_resolution=30)
SAMPLES, HALF_EXTENT = 5, 3.0


def layers(widths: Sequence[int], generator: torch.Generator) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shapes = list(zip(widths[1:], widths, strict=False))
    weights = tuple(torch.randn(shape, generator=generator) / shape[1] ** 0.5 for shape in shapes)
    return weights, tuple(0.3 * torch.randn(shape[0], generator=generator) for shape in shapes)


def grid_layers(spec: GridSpec, widths: Sequence[int]) -> HashGridParams:
    generator = torch.Generator().manual_seed(0)
    weights, biases = layers((spec.output_dim, *widths), generator)
    table = torch.randn(spec.num_entries, spec.features_per_level, generator=generator).half().float()
    for tensor in (table, *weights, *biases):
        tensor.requires_grad_()
    return HashGridParams(grid=spec, table=table, weights=weights, biases=biases)


def color_layers(widths: Sequence[int]) -> ColorParams:
    weights, biases = layers(widths, torch.Generator().manual_seed(1))
    return ColorParams(weights=weights, biases=biases)


def points(rays: int) -> tuple[Tensor, Tensor]:
    """Return points, some outside the cube, and footprints."""
    generator = torch.Generator().manual_seed(rays)
    return (
        1.2 * torch.rand(rays * SAMPLES, 3, generator=generator) - 0.1,
        0.02 * torch.rand(rays * SAMPLES, generator=generator),
    )


def relative_error(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm().clamp_min(1e-12))


def assert_close(values: Sequence[Tensor], expected_values: Sequence[Tensor]) -> None:
    """Compare values in half precision, and gradients as whole vectors, because a ReLU may differ between backends."""
    for value, expected in zip(values, expected_values, strict=True):
        assert value.shape == expected.shape
        assert relative_error(value, expected) < 2e-2
        if expected.numel() > 1 and float(expected.norm()) > 0.0:
            assert float(torch.cosine_similarity(value.flatten(), expected.flatten(), 0)) > 1 - 2e-4


def run_radiance(backend: str, rays: int, *, gradient_scale: bool = True, hidden: int = 16) -> tuple[Tensor, ...]:
    """Return density and color, and all gradients."""
    params = grid_layers(SPEC, (hidden, 16))
    color = color_layers((16, hidden, hidden, 3))
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(rays, hidden, generator=generator)
    positions, footprints = points(rays)
    leaves = [positions, bias, params.table, *params.weights, *params.biases, *color.weights, *color.biases]
    for leaf in leaves:
        leaf.requires_grad_()
    scale = torch.rand(rays * SAMPLES, generator=generator) if gradient_scale else None
    density, colors = radiance(
        params, color, positions, footprints, bias, half_extent=HALF_EXTENT, gradient_scale=scale, backend=backend
    )
    output_gradients = torch.rand(rays * SAMPLES, 4, generator=generator) - 0.3
    loss = (density * output_gradients[:, 0]).sum() + (colors * output_gradients[:, 1:]).sum()
    return density.detach(), colors.detach(), *torch.autograd.grad(loss, leaves)


@needs_triton
@pytest.mark.parametrize(
    ("rays", "gradient_scale", "hidden"), [(0, True, 16), (1, False, 16), (27, True, 16), (9, True, 32)]
)
def test_radiance_matches_the_reference(rays: int, gradient_scale: bool, hidden: int) -> None:
    assert_close(
        *(run_radiance(backend, rays, gradient_scale=gradient_scale, hidden=hidden) for backend in ("triton", "torch"))
    )


@needs_triton
@pytest.mark.parametrize("with_ray_bias", [False, True])
def test_grid_network_matches_the_reference(with_ray_bias: bool) -> None:
    spec = GridSpec(num_levels=5, features_per_level=2, log2_hashmap_size=8, base_resolution=4, max_resolution=30)
    results = []
    for backend in ("triton", "torch"):
        params = grid_layers(spec, (16, 1))
        bias = (
            torch.randn(7, 16, generator=torch.Generator().manual_seed(4)).requires_grad_() if with_ray_bias else None
        )
        out = grid_network(params, *points(7), bias, backend)
        leaves = [params.table, *params.weights, *params.biases, *([] if bias is None else [bias])]
        output_gradient = torch.linspace(-1.0, 2.0, out.numel()).view(out.shape)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, output_gradient)))
    assert_close(*results)


@pytest.mark.parametrize("backend", ["auto", triton_param()])
def test_nan_stays_nan(backend: str) -> None:
    params = grid_layers(SPEC, (16, 16))
    weights, biases = layers((16, 16, 16, 3), torch.Generator().manual_seed(1))
    positions, footprints = points(2)
    positions[3, 1] = float("nan")
    color = ColorParams(weights=weights, biases=biases)
    with torch.no_grad():
        density, colors = radiance(
            params, color, positions, footprints, torch.zeros(2, 16), half_extent=1.0, backend=backend
        )
    assert density.isnan().tolist() == [index == 3 for index in range(2 * SAMPLES)]
    assert colors.isnan().any(-1).tolist() == density.isnan().tolist()


@needs_triton
def test_activations_saturate_instead_of_overflowing() -> None:
    params = grid_layers(SPEC, (16, 16))
    with torch.no_grad():
        params.biases[0].fill_(2.0 * HALF_MAX)
        out = grid_network(params, *points(2), backend="triton")
    assert out.isfinite().all()


@needs_triton
@pytest.mark.parametrize(
    ("features", "widths", "color", "excess"),
    [
        (4, (16, 16, 16), None, "3 layers on a grid"),
        (3, (16, 16), None, "3 features per entry"),
        (8, (16, 16), (16, 16, 3), "8 features per entry"),
        (4, (16, 16), (24, 24, 3), "color layers of width 24"),
        (
            1,
            (16, 16, 16),
            (128, 3),
            "1 features per entry, 3 layers on a grid, 2 color layers, color layers of width 128",
        ),
    ],
)
def test_unsupported_networks_raise_if_requested_and_warn_otherwise(
    monkeypatch: pytest.MonkeyPatch, features: int, widths: tuple[int, ...], color: tuple[int, ...] | None, excess: str
) -> None:
    params = grid_layers(dataclasses.replace(SPEC, features_per_level=features), widths)
    color_params = None if color is None else color_layers((widths[-1], *color))
    assert unfit(params, color_params) == {"triton": excess}

    def run(backend: Backend) -> Tensor:
        if color_params is None:
            return grid_network(params, *points(2), backend=backend)
        ray_bias = torch.zeros(2, len(color_params.weights[0]))
        return radiance(params, color_params, *points(2), ray_bias, half_extent=1.0, backend=backend)[0]

    limit = f"given {excess}, but 'triton' supports only grids with 2 or 4 features per entry and 2 layers"
    with pytest.raises(BackendError, match=f"radiance: backend 'triton' cannot be used: {limit}"):
        run("triton")
    prefer_triton(monkeypatch)
    with pytest.warns(BackendWarning) as warned:
        results = run("auto"), run("auto")
    assert str(warned[0].message).startswith(f"radiance: 'torch' runs instead of 'triton': {limit}")
    assert [str(record.message).split(":")[0] for record in warned] == ["radiance", "hash_grid"][: 1 + (features != 4)]
    assert_close([value.detach() for value in results], [run("torch").detach()] * 2)


@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("color_hidden", [16, 32, 64])
def test_standard_networks_are_supported(features: int, color_hidden: int) -> None:
    params = grid_layers(dataclasses.replace(SPEC, features_per_level=features), (16, 16))
    assert unfit(params, color_layers((16, color_hidden, color_hidden, 3))) == unfit(params) == {}
