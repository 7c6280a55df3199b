"""The hash grid: its layout, gradients of the reference, and the numba backend against it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.hash_grid import GridSpec, encode, level_weights, torch_impl

SPEC = GridSpec(num_levels=5, features_per_level=4, log2_hashmap_size=10, base_resolution=5, max_resolution=70)
"""Two dense levels (5^3 and one that is not a power of two) and three hashed ones."""


def make_table(spec: GridSpec, seed: int = 0) -> Tensor:
    return torch.randn(spec.num_entries, spec.features_per_level, generator=torch.Generator().manual_seed(seed))


def awkward_points(count: int, seed: int = 1) -> Tensor:
    """Return the cube's corners, face centers and center, then random points, some outside."""
    edges = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)
    random = torch.rand(max(count - len(edges), 0), 3, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2
    return torch.cat([edges, random])[:count].contiguous()


def relative_error(value: Tensor, expected: Tensor) -> float:
    return ((value - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def both(points: Tensor, spec: GridSpec, footprints: Tensor | None = None, active: float | None = None) -> dict:
    results = {}
    for backend in ("torch", "numba"):
        leaves = [points.clone().requires_grad_(), make_table(spec).requires_grad_()]
        out = encode(*leaves, spec, footprints, backend, active)
        loss = (out * torch.sin(torch.arange(out.numel()).view(out.shape) * 0.7)).sum()
        results[backend] = (out, *torch.autograd.grad(loss, leaves))
    return results


@pytest.mark.parametrize("features", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 127, 1025])
def test_numba_matches_reference(features: int, count: int) -> None:
    spec = GridSpec(
        num_levels=5, features_per_level=features, log2_hashmap_size=10, base_resolution=5, max_resolution=70
    )
    footprints = torch.linspace(0.0, 0.2, count)
    for args in ((None, None), (footprints, None), (footprints, 2.3)):
        results = both(awkward_points(count), spec, *args)
        for numba, expected in zip(results["numba"], results["torch"], strict=True):
            assert relative_error(numba, expected) < 1e-5
            assert torch.cosine_similarity(numba.flatten(), expected.flatten(), 0) > 1 - 1e-5


def test_numba_matches_reference_at_the_limit_of_dense_levels() -> None:
    # 8^3 fills a table of 2^9 exactly and stays dense; 9^3 does not fit and is hashed.
    for base in (8, 9):
        spec = GridSpec(
            num_levels=1, features_per_level=2, log2_hashmap_size=9, base_resolution=base, max_resolution=base
        )
        assert spec.hashed == (base == 9,)
        results = both(awkward_points(300), spec)
        for numba, expected in zip(results["numba"], results["torch"], strict=True):
            assert relative_error(numba, expected) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_no_points_have_empty_outputs_and_zero_gradients(backend: str) -> None:
    table = make_table(SPEC).requires_grad_()
    out = encode(torch.empty(0, 3), table, SPEC, backend=backend)
    assert out.shape == (0, SPEC.output_dim)
    assert torch.autograd.grad(out.sum(), table)[0].abs().sum() == 0


@pytest.mark.parametrize("footprint", [None, 0.05])
def test_reference_passes_gradcheck(footprint: float | None) -> None:
    spec = GridSpec(num_levels=2, features_per_level=2, log2_hashmap_size=5, base_resolution=3, max_resolution=9)
    points = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    table = make_table(spec).double().requires_grad_()
    footprints = None if footprint is None else torch.full((6,), footprint, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, spec, footprints), (points, table), eps=1e-7)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_layout_matches_tiny_cuda_nn(backend: str) -> None:
    """A slow oracle in 32-bit unsigned arithmetic, one entry at a time, following tiny-cuda-nn's `grid_index`."""
    table, points = make_table(SPEC), awkward_points(60)
    out = encode(points, table, SPEC, backend=backend)
    for point, row in zip(points.numpy(), out.numpy(), strict=True):
        np.testing.assert_allclose(row, oracle(point, table.numpy()), rtol=2e-4, atol=2e-4)


def oracle(point: np.ndarray, table: np.ndarray) -> np.ndarray:
    growth = (SPEC.max_resolution / SPEC.base_resolution) ** (1 / (SPEC.num_levels - 1))
    first, values = 0, []
    for level in range(SPEC.num_levels):
        scale = np.float32(SPEC.base_resolution * growth**level - 1)
        resolution = int(np.ceil(scale)) + 1
        size = min(-(-(resolution**3) // 8) * 8, 1 << SPEC.log2_hashmap_size)
        position = np.clip(point, 0, 1) * scale + np.float32(0.5)
        cell = np.floor(position).astype(int)
        total = np.zeros(SPEC.features_per_level)
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (int(c) for c in cell + corner)
            weight = np.prod(np.where(corner, position - cell, 1 - (position - cell)))
            hashed = (x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % size
            dense = (x + y * resolution + z * resolution**2) % size
            total += weight * table[first + (dense if resolution**3 <= size else hashed)]
        values.append(total)
        first += size
    assert first == len(table)
    return np.concatenate(values)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_nan_propagates(backend: str) -> None:
    table, points = make_table(SPEC), awkward_points(40)
    points[7, 1] = float("nan")
    out = encode(points, table, SPEC, backend=backend)
    assert out[7].isnan().all()
    assert out[8].isfinite().all()
    table[:, 2] = float("nan")
    assert encode(points, table, SPEC, backend=backend)[:, 2 :: SPEC.features_per_level].isnan().all()


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_points_far_outside_are_clamped(backend: str) -> None:
    table = make_table(SPEC)
    far = torch.tensor([[1e30, -float("inf"), 5.0], [float("inf"), 0.25, -3.0]], requires_grad=True)
    out = encode(far, table, SPEC, backend=backend)
    torch.testing.assert_close(out, encode(far.detach().clamp(0, 1), table, SPEC, backend=backend))
    gradient = torch.autograd.grad(out.square().sum(), far)[0]
    assert (gradient[0] == 0).all()
    assert gradient[1, 1] != 0


def test_numba_is_deterministic() -> None:
    first, second = (both(awkward_points(5000), SPEC, torch.full((5000,), 0.01))["numba"] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_antialiasing_follows_zip_nerf() -> None:
    sigma = torch.logspace(-3, 2, 400, dtype=torch.float64)
    expected = torch.erf(1 / (8 * (sigma * 50) ** 2).sqrt())
    weight = torch_impl.antialiasing(sigma, 50.0)
    assert (weight - expected).abs().max() < 0.06
    assert (weight.diff() <= 0).all()
    assert weight[0] > 0.99
    assert weight[-1] < 1e-3


def test_levels_fade_in_from_coarse_to_fine() -> None:
    assert level_weights(3, None) == (1.0, 1.0, 1.0)
    assert level_weights(3, 0.0) == (0.0, 0.0, 0.0)
    table, points = make_table(SPEC), awkward_points(50)
    full, part = encode(points, table, SPEC), encode(points, table, SPEC, active_levels=2.0)
    torch.testing.assert_close(part[:, :8], full[:, :8])
    assert (part[:, 8:] == 0).all()


def test_requested_backend_is_not_replaced() -> None:
    with pytest.raises(BackendError, match="float32 only"):
        encode(awkward_points(3).double(), make_table(SPEC).double(), SPEC, backend="numba")


def test_table_of_wrong_shape_raises() -> None:
    with pytest.raises(ValueError, match="the spec needs"):
        encode(awkward_points(3), make_table(SPEC)[1:], SPEC)
