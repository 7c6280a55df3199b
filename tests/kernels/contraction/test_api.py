"""Contraction into the unit cube: properties of the reference, and the other backends against it."""

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.contraction import contract_to_unit_cube
from tests.kernels.interpreted import needs_triton, triton_param

COUNTS = [*(("numba", count) for count in (0, 1, 7, 4096, 10_001)), *(triton_param(count) for count in (0, 1, 7, 300))]
BOX = ((10.0, -3.0, 2.0), 20.0)


def cloud(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    scale = 10.0 ** (6.0 * torch.rand(count, 1, generator=generator) - 2.0)
    points = torch.randn(count, 3, generator=generator) * scale
    return points.to(dtype), torch.rand(count, generator=generator).to(dtype)


@pytest.mark.parametrize(("backend", "count"), COUNTS)
def test_other_backends_match_the_reference(backend: str, count: int) -> None:
    points, footprints = cloud(count)
    for value, expected in zip(
        contract_to_unit_cube(points, footprints, *BOX, backend=backend),
        contract_to_unit_cube(points, footprints, *BOX, backend="torch"),
        strict=True,
    ):
        torch.testing.assert_close(value, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_block_fills_the_middle_half(backend: str) -> None:
    corners = torch.tensor([[10.0, -3.0, 2.0], [30.0, 17.0, 22.0], [-10.0, -23.0, -18.0], [1e9, -3.0, 2.0]])
    cube, _ = contract_to_unit_cube(corners, torch.ones(4), *BOX, backend=backend)
    expected = torch.tensor([[0.5] * 3, [0.75] * 3, [0.25] * 3, [1.0, 0.5, 0.5]])
    torch.testing.assert_close(cube, expected)


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_nan_stays_nan(backend: str) -> None:
    cube, _ = contract_to_unit_cube(torch.tensor([[float("nan"), 0.0, 0.0]]), torch.ones(1), *BOX, backend=backend)
    assert cube[0, 0].isnan()


def test_reference_gradients() -> None:
    points, footprints = cloud(20, torch.float64)
    torch.autograd.gradcheck(
        lambda p, f: contract_to_unit_cube(p, f, *BOX, backend="torch"),
        (points.clamp(-100, 100).requires_grad_(), footprints.requires_grad_()),
    )


@pytest.mark.parametrize(("backend", "count"), COUNTS)
def test_gradients_of_other_backends_match_the_reference(backend: str, count: int) -> None:
    points, footprints = cloud(count)
    weights = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    results = []
    for name, dtype in ((backend, torch.float32), ("torch", torch.float64)):
        leaf = points.to(dtype, copy=True).requires_grad_()
        cube, _ = contract_to_unit_cube(leaf, footprints.to(dtype), *BOX, backend=name)
        (cube * weights.to(dtype)).sum().backward()
        results.append(leaf.grad)
    torch.testing.assert_close(results[0].double(), results[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("backend", ["numba", "torch", triton_param()])
def test_nan_gradient_stays_nan(backend: str) -> None:
    leaf = torch.tensor([[float("nan"), 0.0, 0.0]], requires_grad=True)
    cube, _ = contract_to_unit_cube(leaf, torch.ones(1), *BOX, backend=backend)
    cube.sum().backward()
    assert leaf.grad.isnan().any()


@needs_triton
def test_axes_of_equal_length_split_the_gradient() -> None:
    results = []
    for backend in ("triton", "torch"):
        leaf = torch.tensor([[90.0, 77.0, 82.0], [-70.0, 77.0, 5.0]], requires_grad=True)
        cube, _ = contract_to_unit_cube(leaf, torch.ones(2), *BOX, backend=backend)
        (cube * torch.tensor([1.0, 2.0, -4.0])).sum().backward()
        results.append(leaf.grad)
    torch.testing.assert_close(*results)


def test_footprints_can_have_a_gradient() -> None:
    points, footprints = cloud(5)
    _, radii = contract_to_unit_cube(points, footprints.requires_grad_(), *BOX)
    radii.sum().backward()
    assert footprints.grad.isfinite().all()


@pytest.mark.parametrize("backend", ["numba", triton_param()])
def test_other_backends_reject_double_precision(backend: str) -> None:
    with pytest.raises(BackendError, match="float32 only"):
        contract_to_unit_cube(*cloud(3, torch.float64), *BOX, backend=backend)
