"""Grid features through small networks: the kernels for a GPU, interpreted, against the layers one after the other."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.backends import Backend, BackendWarning
from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.precision import HALF_MAX
from blocknerf.kernels.radiance import ColorParams, HashGridParams, grid_network, radiance, unfit
from tests.kernels.interpreted import fused, needs_triton, prefer_fused

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
    """Points, some outside the cube, and footprints."""
    generator = torch.Generator().manual_seed(rays)
    return (
        1.2 * torch.rand(rays * SAMPLES, 3, generator=generator) - 0.1,
        0.02 * torch.rand(rays * SAMPLES, generator=generator),
    )


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float((value - truth).norm() / truth.norm().clamp_min(1e-12))


def assert_close(values: Sequence[Tensor], truths: Sequence[Tensor]) -> None:
    """Values to half precision; gradients as whole vectors, for a rectifier may be on in one and off in the other."""
    for value, truth in zip(values, truths, strict=True):
        assert value.shape == truth.shape
        assert relative_error(value, truth) < 2e-2
        if truth.numel() > 1 and float(truth.norm()) > 0.0:
            assert float(torch.cosine_similarity(value.flatten(), truth.flatten(), 0)) > 1 - 2e-4


def colored(backend: str, rays: int, *, fade: bool = True, hidden: int = 16) -> tuple[Tensor, ...]:
    """Density and color, and the gradients of everything."""
    part = grid_layers(SPEC, (hidden, 16))
    color = color_layers((16, hidden, hidden, 3))
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(rays, hidden, generator=generator)
    place, footprints = points(rays)
    leaves = [place, bias, part.table, *part.weights, *part.biases, *color.weights, *color.biases]
    for leaf in leaves:
        leaf.requires_grad_()
    fades = torch.rand(rays * SAMPLES, generator=generator) if fade else None
    density, hues = radiance(part, color, place, footprints, bias, half_extent=HALF_EXTENT, fade=fades, backend=backend)
    slopes = torch.rand(rays * SAMPLES, 4, generator=generator) - 0.3
    loss = (density * slopes[:, 0]).sum() + (hues * slopes[:, 1:]).sum()
    return density.detach(), hues.detach(), *torch.autograd.grad(loss, leaves)


@needs_triton
@pytest.mark.parametrize(("rays", "fade", "hidden"), [(0, True, 16), (1, False, 16), (27, True, 16), (9, True, 32)])
def test_the_whole_way_matches_the_reference(rays: int, fade: bool, hidden: int) -> None:
    assert_close(*(colored(backend, rays, fade=fade, hidden=hidden) for backend in ("triton", "torch")))


@needs_triton
@pytest.mark.parametrize("rows", [False, True])
def test_a_grids_network_matches_the_reference(rows: bool) -> None:
    spec = GridSpec(num_levels=5, features_per_level=2, log2_hashmap_size=8, base_resolution=4, max_resolution=30)
    results = []
    for backend in ("triton", "torch"):
        part = grid_layers(spec, (16, 1))
        bias = torch.randn(7, 16, generator=torch.Generator().manual_seed(4)).requires_grad_() if rows else None
        out = grid_network(part, *points(7), bias, backend)
        leaves = [part.table, *part.weights, *part.biases, *([] if bias is None else [bias])]
        slope = torch.linspace(-1.0, 2.0, out.numel()).view(out.shape)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, slope)))
    assert_close(*results)


@pytest.mark.parametrize("backend", ["auto", fused()])
def test_what_is_not_a_number_stays_one(backend: str) -> None:
    part = grid_layers(SPEC, (16, 16))
    weights, biases = layers((16, 16, 16, 3), torch.Generator().manual_seed(1))
    place, footprints = points(2)
    place[3, 1] = float("nan")
    color = ColorParams(weights=weights, biases=biases)
    with torch.no_grad():
        density, colors = radiance(part, color, place, footprints, torch.zeros(2, 16), half_extent=1.0, backend=backend)
    assert density.isnan().tolist() == [index == 3 for index in range(2 * SAMPLES)]
    assert colors.isnan().any(-1).tolist() == density.isnan().tolist()


@needs_triton
def test_activations_saturate_instead_of_overflowing() -> None:
    part = grid_layers(SPEC, (16, 16))
    with torch.no_grad():
        part.biases[0].fill_(2.0 * HALF_MAX)
        out = grid_network(part, *points(2), backend="triton")
    assert out.isfinite().all()


@needs_triton
@pytest.mark.parametrize(
    ("features", "widths", "color", "given"),
    [
        (4, (16, 16, 16), None, "3 layers on a grid"),
        (3, (16, 16), None, "3 features an entry"),
        (8, (16, 16), (16, 16, 3), "8 features an entry"),
        (4, (16, 16), (24, 24, 3), "color layers of 24"),
        (1, (16, 16, 16), (128, 3), "1 features an entry, 3 layers on a grid, 2 color layers, color layers of 128"),
    ],
)
def test_networks_of_another_form_are_refused_by_name_and_run_in_layers_with_a_warning_otherwise(
    monkeypatch: pytest.MonkeyPatch, features: int, widths: tuple[int, ...], color: tuple[int, ...] | None, given: str
) -> None:
    part = grid_layers(dataclasses.replace(SPEC, features_per_level=features), widths)
    tint = None if color is None else color_layers((widths[-1], *color))
    assert unfit(part, tint) == {"triton": given}

    def run(backend: Backend) -> Tensor:
        if tint is None:
            return grid_network(part, *points(2), backend=backend)
        rows = torch.zeros(2, len(tint.weights[0]))
        return radiance(part, tint, *points(2), rows, half_extent=1.0, backend=backend)[0]

    limit = f"given {given}, and 'triton' takes grids of 2 or 4 features an entry under 2 layers"
    with pytest.raises(BackendError, match=f"radiance: backend 'triton' cannot be used: {limit}"):
        run("triton")
    prefer_fused(monkeypatch)
    with pytest.warns(BackendWarning) as told:
        again = run("auto"), run("auto")
    assert str(told[0].message).startswith(f"radiance: 'torch' runs instead of 'triton': {limit}")
    assert [str(each.message).split(":")[0] for each in told] == ["radiance", "hash_grid"][: 1 + (features != 4)]
    assert_close([value.detach() for value in again], [run("torch").detach()] * 2)


@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("tint", [16, 32, 64])
def test_networks_of_the_usual_form_fit(features: int, tint: int) -> None:
    part = grid_layers(dataclasses.replace(SPEC, features_per_level=features), (16, 16))
    assert unfit(part, color_layers((16, tint, tint, 3))) == unfit(part) == {}
