"""Choosing a backend: the fastest usable one, with the reason, and never another than the one asked for."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.errors import BackendError
from blocknerf.kernels import backends
from blocknerf.kernels.backends import LIMITS, OPERATIONS, BackendWarning, availability, choose, explain
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.ray_encoding import encode_directions, encode_ray_inputs
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.ray_spacing import RaySpacing
from tests.kernels.interpreted import fused, needs_triton

TOLD = (backends._numba, backends._triton, backends._chosen, backends._tell)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is known of what can be used, and nothing was warned of."""
    for cached in TOLD:
        cached.cache_clear()
    yield
    for cached in TOLD:
        cached.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """A GPU, and Triton for it."""
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    monkeypatch.setattr(backends, "_triton", lambda: (True, "Triton on a GPU"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_float32_on_the_processor_runs_natively_and_the_rest_by_reference(operation: str) -> None:
    native = "numba" if "numba" in OPERATIONS[operation] else "torch"
    assert choose(operation, "auto", torch.zeros(1)) == native
    assert choose(operation, "auto", torch.zeros(1).double()) == "torch"
    assert choose(operation, "auto", torch.zeros(1, device="meta")) == "torch"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_verdict_has_a_reason(operation: str) -> None:
    verdicts = availability(operation, "meta", torch.float32)
    assert [verdict.backend for verdict in verdicts] == list(OPERATIONS[operation])
    usable = {verdict.backend: verdict.usable for verdict in verdicts}
    assert usable == {backend: backend == "torch" for backend in OPERATIONS[operation]}
    assert "meta" in verdicts[0].reason
    assert all(verdict.reason for verdict in verdicts)


def test_a_backend_asked_for_by_name_is_never_replaced() -> None:
    with pytest.raises(BackendError, match="'numba' cannot be used: float32 only"):
        choose("mlp", "numba", torch.zeros(1).double())
    with pytest.raises(BackendError, match="no backend named 'tcnn'"):
        choose("mlp", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="'tcnn' cannot be used: compiled for a GPU"):
        choose("hash_grid", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="no operation named 'sorting'"):
        availability("sorting")


def test_mixed_tensors_are_refused() -> None:
    with pytest.raises(BackendError, match="give all the same"):
        choose("mlp", "auto", torch.zeros(1), torch.zeros(1).double())


@pytest.mark.usefixtures("fresh")
def test_without_numba_the_reference_runs_and_one_warning_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(BackendWarning, match="'torch' runs instead of 'numba': .*pip install numba") as told:
        assert {choose(name, "auto", torch.zeros(1)) for name in OPERATIONS} == {"torch"}
    assert len(told) == 1
    with pytest.raises(BackendError, match="pip install numba"):
        choose("mlp", "numba", torch.zeros(1))


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_without_triton_one_warning_and_every_record_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_triton", lambda: (False, "install gcc"))
    with pytest.warns(BackendWarning, match="kernels: 'torch' runs instead of 'triton': install gcc") as told:
        assert {backends._chosen(name, "auto", "cuda", torch.float32) for name in OPERATIONS} == {"torch"}
    assert len(told) == 1
    for name in OPERATIONS:
        assert explain(name, "cuda").reason.endswith("; not 'triton': install gcc") == ("triton" in OPERATIONS[name])


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_expected_to_run_is_told_without_more(operation: str) -> None:
    for device, name in backends.WRITTEN_FOR.items():
        expected = name if name in OPERATIONS[operation] else "torch"
        verdict = explain(operation, device)
        assert (verdict.backend, "not '" in verdict.reason) == (expected, False)


@pytest.mark.usefixtures("fresh")
def test_what_is_beyond_a_backend_is_given_to_the_next_with_one_warning() -> None:
    unfit = {"numba": "rays of wood"}
    with pytest.warns(BackendWarning) as told:
        assert [choose("ray_samples", "auto", torch.zeros(1), unfit=unfit) for _ in range(2)] == ["torch"] * 2
    limit = "given rays of wood, and 'numba' takes rays that need no gradient"
    assert [str(each.message) for each in told] == [f"ray_samples: 'torch' runs instead of 'numba': {limit}"]
    assert explain("ray_samples", "cpu", unfit).reason.endswith(f"; not 'numba': {limit}")
    assert choose("ray_samples", "torch", torch.zeros(1), unfit=unfit) == "torch"
    with pytest.raises(BackendError, match=f"intervals: backend 'numba' cannot be used: {limit}; use 'auto'"):
        choose("ray_samples", "numba", torch.zeros(1), unfit=unfit)


def test_a_backend_says_what_it_takes() -> None:
    told = {(each.operation, each.backend): each.takes for name in OPERATIONS for each in availability(name)}
    assert {key: takes for key, takes in told.items() if takes} == {
        key: takes for key, takes in LIMITS.items() if key[1] in OPERATIONS[key[0]]
    }


def moving_intervals(backend: str) -> torch.Tensor:
    ray = RayBundle(
        origins=torch.zeros(1, 3), directions=torch.ones(1, 3), pixel_radii=torch.ones(1)
    ).requires_grad_copy()
    return make_ray_samples(
        torch.tensor([[0.0, 1.0]]), ray, RaySpacing(near=0.1, far=9.0, linear_until=1.0), backend
    ).points


def moving_directions(backend: str) -> torch.Tensor:
    return encode_directions(torch.ones(1, 3).requires_grad_(), backend)


def moving_exposure(backend: str) -> torch.Tensor:
    return encode_ray_inputs(torch.ones(1, 3), torch.ones(1, 4), torch.ones(1).requires_grad_(), 1.0, backend)


def widening_footprints(backend: str) -> torch.Tensor:
    return contract_to_unit_cube(torch.ones(1, 3), torch.ones(1).requires_grad_(), (0.0, 0.0, 0.0), 1.0, backend)[1]


@pytest.mark.parametrize(
    ("backend", "run"),
    [
        ("numba", moving_intervals),
        ("numba", widening_footprints),
        *(fused(run) for run in (moving_intervals, widening_footprints, moving_directions, moving_exposure)),
    ],
)
def test_a_gradient_that_a_backend_asked_for_does_not_give_is_refused(
    backend: str, run: Callable[[str], torch.Tensor]
) -> None:
    with pytest.raises(BackendError, match=f"{backend!r} cannot be used: given .* that need a gradient"):
        run(backend)
    assert run("auto").requires_grad  # and no warning


@needs_triton
def test_without_a_compiler_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    monkeypatch.setattr(backends.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    usable, reason = backends._triton.__wrapped__()
    assert not usable
    assert "install gcc" in reason


def test_importing_the_kernels_loads_no_compiler() -> None:
    lines = [
        "import sys",
        *(f"import blocknerf.kernels.{operation}" for operation in OPERATIONS),
        "assert not {'numba', 'llvmlite', 'triton'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
