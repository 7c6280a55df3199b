"""The hash grid's triton kernels, interpreted: equal to the reference on half-precision tables."""

import pytest
import torch
from torch import Tensor

from blocknerf.errors import BackendError
from blocknerf.kernels.hash_grid import GridSpec, encode
from tests.kernels.hash_grid.test_api import SPEC, awkward_points, make_table, relative_error
from tests.kernels.interpreted import needs_triton

pytestmark = needs_triton


def run(
    backend: str, points: Tensor, spec: GridSpec, footprints: Tensor | None = None, active: float | None = None
) -> tuple[Tensor, ...]:
    """Return values, and gradients of points and table."""
    leaves = points.clone().requires_grad_(), make_table(spec).half().float().requires_grad_()
    out = encode(*leaves, spec, footprints, backend, active)
    loss = (out * torch.sin(torch.arange(out.numel()).view(out.shape) * 0.7)).sum()
    return out.detach(), *torch.autograd.grad(loss, leaves)


def assert_same(*arguments: object) -> None:
    for value, expected in zip(run("triton", *arguments), run("torch", *arguments), strict=True):
        assert value.shape == expected.shape
        assert relative_error(value, expected) < 1e-5


@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("count", [0, 131])
def test_triton_matches_the_reference(features: int, count: int) -> None:
    spec = GridSpec(
        num_levels=3, features_per_level=features, log2_hashmap_size=9, base_resolution=5, max_resolution=40
    )
    assert_same(awkward_points(count), spec)
    assert_same(awkward_points(count), spec, torch.linspace(0.0, 0.2, count), 1.3)


@pytest.mark.parametrize("base", [8, 9])
def test_triton_matches_at_the_limit_of_dense_levels(base: int) -> None:
    # 8^3 fills a table of 2^9 exactly and stays dense; 9^3 does not fit and is hashed.
    assert_same(
        awkward_points(60),
        GridSpec(num_levels=1, features_per_level=2, log2_hashmap_size=9, base_resolution=base, max_resolution=base),
    )


def test_active_levels_may_be_a_tensor() -> None:
    points, table = awkward_points(40), make_table(SPEC)
    from_number, from_tensor = (
        encode(points, table, SPEC, None, "triton", active) for active in (2.3, torch.tensor(2.3))
    )
    torch.testing.assert_close(from_number, from_tensor)


def test_half_precision_copy_is_read_instead_of_the_table() -> None:
    points, table = awkward_points(40), make_table(SPEC)
    copied = encode(points, table, SPEC, None, "triton", half=table.half())
    torch.testing.assert_close(copied, encode(points, table, SPEC, None, "triton"), rtol=0.0, atol=0.0)
    doubled = encode(points, table, SPEC, None, "triton", half=2.0 * table.half())
    torch.testing.assert_close(doubled, 2.0 * copied, rtol=1e-3, atol=1e-3)


def test_nan_propagates() -> None:
    table, points = make_table(SPEC), awkward_points(40)
    points[7, 1] = float("nan")
    out = encode(points, table, SPEC, backend="triton")
    assert out[7].isnan().all()
    assert out[8].isfinite().all()


def test_deterministic_sums_match_and_do_not_depend_on_order(monkeypatch: pytest.MonkeyPatch) -> None:
    points = awkward_points(90)
    nondeterministic = run("triton", points, SPEC)[2]
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    deterministic = run("triton", points, SPEC)[2]
    assert relative_error(deterministic, nondeterministic) < 1e-6
    # The same samples in another order: integer sums are identical.
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    table, output_gradient = (
        make_table(SPEC),
        torch.randn(90, SPEC.output_dim, generator=torch.Generator().manual_seed(1)),
    )
    sums = []
    for permutation in (torch.arange(90), order):
        leaf = table.clone().requires_grad_()
        sums.append(
            torch.autograd.grad(
                encode(points[permutation], leaf, SPEC, backend="triton"), leaf, output_gradient[permutation]
            )[0]
        )
    assert torch.equal(*sums)


def test_unsupported_feature_count_raises() -> None:
    spec = GridSpec(num_levels=2, features_per_level=1, log2_hashmap_size=9, base_resolution=5, max_resolution=20)
    with pytest.raises(
        BackendError, match="given 1 features per entry, but 'triton' supports only grids with 2 or 4 features"
    ):
        encode(awkward_points(3), make_table(spec), spec, backend="triton")
