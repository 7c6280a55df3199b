"""Contraction into the unit cube: the other backends against the reference, and what the reference is."""

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.contraction import contract_to_unit_cube
from tests.kernels.interpreted import fused, needs_triton

COUNTS = [*(("numba", count) for count in (0, 1, 7, 4096, 10_001)), *(fused(count) for count in (0, 1, 7, 300))]
PLACE = ((10.0, -3.0, 2.0), 20.0)


def cloud(count: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    reach = 10.0 ** (6.0 * torch.rand(count, 1, generator=generator) - 2.0)
    points = torch.randn(count, 3, generator=generator) * reach
    return points.to(dtype), torch.rand(count, generator=generator).to(dtype)


@pytest.mark.parametrize(("backend", "count"), COUNTS)
def test_other_backends_match_the_reference(backend: str, count: int) -> None:
    points, footprints = cloud(count)
    for value, truth in zip(
        contract_to_unit_cube(points, footprints, *PLACE, backend=backend),
        contract_to_unit_cube(points, footprints, *PLACE, backend="torch"),
        strict=True,
    ):
        torch.testing.assert_close(value, truth, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("backend", ["numba", "torch", fused()])
def test_the_block_fills_the_middle_half(backend: str) -> None:
    corners = torch.tensor([[10.0, -3.0, 2.0], [30.0, 17.0, 22.0], [-10.0, -23.0, -18.0], [1e9, -3.0, 2.0]])
    cube, _ = contract_to_unit_cube(corners, torch.ones(4), *PLACE, backend=backend)
    expected = torch.tensor([[0.5] * 3, [0.75] * 3, [0.25] * 3, [1.0, 0.5, 0.5]])
    torch.testing.assert_close(cube, expected)


@pytest.mark.parametrize("backend", ["numba", "torch", fused()])
def test_not_a_number_stays_one(backend: str) -> None:
    cube, _ = contract_to_unit_cube(torch.tensor([[float("nan"), 0.0, 0.0]]), torch.ones(1), *PLACE, backend=backend)
    assert cube[0, 0].isnan()


def test_reference_gradients() -> None:
    points, footprints = cloud(20, torch.float64)
    torch.autograd.gradcheck(
        lambda p, f: contract_to_unit_cube(p, f, *PLACE, backend="torch"),
        (points.clamp(-100, 100).requires_grad_(), footprints.requires_grad_()),
    )


@pytest.mark.parametrize(("backend", "count"), COUNTS)
def test_gradients_of_other_backends_match_the_reference(backend: str, count: int) -> None:
    points, footprints = cloud(count)
    weights = torch.randn(count, 3, generator=torch.Generator().manual_seed(1))
    found = []
    for name, dtype in ((backend, torch.float32), ("torch", torch.float64)):
        leaf = points.to(dtype, copy=True).requires_grad_()
        cube, _ = contract_to_unit_cube(leaf, footprints.to(dtype), *PLACE, backend=name)
        (cube * weights.to(dtype)).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("backend", ["numba", "torch", fused()])
def test_a_gradient_that_is_not_a_number_stays_one(backend: str) -> None:
    leaf = torch.tensor([[float("nan"), 0.0, 0.0]], requires_grad=True)
    cube, _ = contract_to_unit_cube(leaf, torch.ones(1), *PLACE, backend=backend)
    cube.sum().backward()
    assert leaf.grad.isnan().any()


@needs_triton
def test_equally_long_axes_share_the_gradient() -> None:
    found = []
    for backend in ("triton", "torch"):
        leaf = torch.tensor([[90.0, 77.0, 82.0], [-70.0, 77.0, 5.0]], requires_grad=True)
        cube, _ = contract_to_unit_cube(leaf, torch.ones(2), *PLACE, backend=backend)
        (cube * torch.tensor([1.0, 2.0, -4.0])).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


def test_footprints_that_need_a_gradient_get_one() -> None:
    points, footprints = cloud(5)
    _, radii = contract_to_unit_cube(points, footprints.requires_grad_(), *PLACE)
    radii.sum().backward()
    assert footprints.grad.isfinite().all()


@pytest.mark.parametrize("backend", ["numba", fused()])
def test_other_backends_refuse_double_precision(backend: str) -> None:
    with pytest.raises(BackendError, match="float32 only"):
        contract_to_unit_cube(*cloud(3, torch.float64), *PLACE, backend=backend)
