"""The radiance operation in Numba against the reference: values and gradients."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from blocknerf.kernels.hash_grid import GridSpec
from blocknerf.kernels.radiance import ColorParams, HashGridParams, radiance
from blocknerf.kernels.threads import available_cores, set_num_threads

FOUR = GridSpec(num_levels=3, features_per_level=4, log2_hashmap_size=10, base_resolution=4, max_resolution=32)
TWO = GridSpec(num_levels=5, features_per_level=2, log2_hashmap_size=9, base_resolution=3, max_resolution=20)


def layers(generator: torch.Generator, *widths: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    shapes = [(b, a) for a, b in pairwise(widths)]
    weights = tuple((torch.randn(shape, generator=generator) / shape[1] ** 0.5).requires_grad_() for shape in shapes)
    return weights, tuple((0.3 * torch.randn(b, generator=generator)).requires_grad_() for b, _ in shapes)


class Case:
    """A random field, samples in and around its cube, and output gradients."""

    def __init__(self, rays: int, samples: int, grid: GridSpec = FOUR, hidden: int = 32, features: int = 16) -> None:
        generator = torch.Generator().manual_seed(rays + samples)
        table = torch.rand(grid.num_entries, grid.features_per_level, generator=generator) - 0.5
        weights, biases = layers(generator, grid.output_dim, hidden, features)
        color_weights, color_biases = layers(generator, features, hidden, hidden, 3)
        self.field = HashGridParams(grid=grid, table=table.requires_grad_(), weights=weights, biases=biases)
        self.color = ColorParams(weights=color_weights, biases=color_biases)
        self.points = (1.2 * torch.rand(rays * samples, 3, generator=generator) - 0.1).requires_grad_()
        self.footprints = 0.05 * torch.rand(rays * samples, generator=generator)
        self.ray_bias = torch.randn(rays, hidden, generator=generator).requires_grad_()
        self.gradient_scale = torch.rand(rays * samples, generator=generator)
        count = rays * samples
        self.gradients = torch.randn(count, generator=generator), torch.randn(count, 3, generator=generator)

    def run(self, backend: str, footprints: bool = True, gradient_scale: bool = True) -> tuple[Tensor, Tensor]:
        radii, scale = self.footprints if footprints else None, self.gradient_scale if gradient_scale else None
        return radiance(
            self.field,
            self.color,
            self.points,
            radii,
            self.ray_bias,
            half_extent=3.0,
            gradient_scale=scale,
            backend=backend,
        )

    def results(self, backend: str, **choices: bool) -> list[Tensor]:
        """Return density, color, and all gradients."""
        outputs = self.run(backend, **choices)
        networks = (*self.field.weights, *self.field.biases, *self.color.weights, *self.color.biases)
        leaves = [self.points, self.ray_bias, self.field.table, *networks]
        return [*outputs, *torch.autograd.grad(outputs, leaves, self.gradients)]


def assert_close(values: list[Tensor], expected_values: list[Tensor]) -> None:
    for value, expected in zip(values, expected_values, strict=True):
        # A sum within rounding of zero may be on either side of the ReLU, so the tolerance is not tighter.
        assert (value - expected).norm() <= 3e-4 * expected.norm() + 1e-12


@pytest.mark.parametrize(("rays", "samples"), [(1, 1), (3, 7), (64, 16), (100, 24), (5, 613), (1, 1025)])
@pytest.mark.parametrize(("grid", "hidden", "features"), [(FOUR, 32, 16), (TWO, 17, 5), (TWO, 64, 16)])
def test_numba_matches_reference(rays: int, samples: int, grid: GridSpec, hidden: int, features: int) -> None:
    case = Case(rays, samples, grid, hidden, features)
    assert_close(case.results("numba"), case.results("torch"))


@pytest.mark.parametrize("footprints", [False, True])
@pytest.mark.parametrize("gradient_scale", [False, True])
def test_optional_arguments(footprints: bool, gradient_scale: bool) -> None:
    case = Case(20, 24)
    choices = {"footprints": footprints, "gradient_scale": gradient_scale}
    assert_close(case.results("numba", **choices), case.results("torch", **choices))


@pytest.mark.parametrize("active_levels", [0.5, 1.4, 2.0])
def test_inactive_levels_have_no_gradient(active_levels: float) -> None:
    case = Case(20, 24)
    case.field = replace(case.field, active_levels=active_levels)
    numba = case.results("numba")
    assert_close(numba, case.results("torch"))
    assert (numba[4][FOUR.offsets[2] :] == 0).all()


@pytest.mark.parametrize("rays", [0, 3])
def test_no_samples_have_empty_outputs_and_zero_gradients(rays: int) -> None:
    density, color, *gradients = Case(rays, 0).results("numba")
    assert (density.shape, color.shape) == ((0,), (0, 3))
    assert all((gradient == 0).all() for gradient in gradients)


def test_only_the_ray_bias_gets_gradients_if_all_else_is_frozen() -> None:
    case = Case(10, 24)
    for tensor in (case.points, case.field.table, *case.field.weights, *case.field.biases):
        tensor.requires_grad_(False)
    for tensor in (*case.color.weights, *case.color.biases):
        tensor.requires_grad_(False)
    numba, expected = (
        torch.autograd.grad(case.run(backend)[1], case.ray_bias, case.gradients[1]) for backend in ("numba", "torch")
    )
    assert_close(list(numba), list(expected))


def test_nan_propagates() -> None:
    case = Case(10, 24)
    with torch.no_grad():
        case.points[70, 1] = float("nan")
    density, color = case.run("numba")
    assert density[70].isnan()
    assert color[70].isnan().all()
    assert density[:70].isfinite().all()
    assert color[71:].isfinite().all()
    assert all(gradient.isnan().any() for gradient in case.results("numba")[3:])


def test_density_is_limited_and_keeps_its_gradient() -> None:
    case = Case(2, 24)
    with torch.no_grad():
        case.field.biases[-1][0] = 40.0
    assert_close(case.results("numba"), case.results("torch"))


def test_numba_does_not_depend_on_run_or_threads() -> None:
    case = Case(200, 24)
    first, second = (case.results("numba") for _ in range(2))
    set_num_threads(1)
    third = case.results("numba")
    set_num_threads(available_cores())
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))


def test_mismatched_shapes_raise() -> None:
    case = Case(4, 6)
    case.ray_bias = torch.randn(5, 32)
    with pytest.raises(ValueError, match="rays x samples"):
        case.run("numba")
    case.field = replace(case.field, table=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="the spec needs"):
        case.run("numba")
