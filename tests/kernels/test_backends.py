"""Backend selection: the fastest usable backend, with the reason; a requested backend is never replaced."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from blocknerf.cameras import RayBundle
from blocknerf.errors import BackendError
from blocknerf.geometry import RaySpacing
from blocknerf.kernels import backends
from blocknerf.kernels.backends import LIMITS, OPERATIONS, BackendWarning, availability, choose, explain
from blocknerf.kernels.contraction import contract_to_unit_cube
from blocknerf.kernels.ray_encoding import encode_directions, encode_ray_inputs
from blocknerf.kernels.ray_samples import make_ray_samples
from tests.kernels.interpreted import needs_triton, triton_param

CACHES = (backends._numba, backends._triton, backends._resolve_backend, backends._warn_fallback)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No cached availability, and no earlier warnings."""
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    """A GPU with Triton."""
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    monkeypatch.setattr(backends, "_triton", lambda: (True, "Triton on a GPU"))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_float32_on_cpu_uses_numba_and_everything_else_the_reference(operation: str) -> None:
    expected = "numba" if "numba" in OPERATIONS[operation] else "torch"
    assert choose(operation, "auto", torch.zeros(1)) == expected
    assert choose(operation, "auto", torch.zeros(1).double()) == "torch"
    assert choose(operation, "auto", torch.zeros(1, device="meta")) == "torch"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_availability_has_a_reason(operation: str) -> None:
    verdicts = availability(operation, "meta", torch.float32)
    assert [verdict.backend for verdict in verdicts] == list(OPERATIONS[operation])
    usable = {verdict.backend: verdict.usable for verdict in verdicts}
    assert usable == {backend: backend == "torch" for backend in OPERATIONS[operation]}
    assert "meta" in verdicts[0].reason
    assert all(verdict.reason for verdict in verdicts)


def test_requested_backend_is_never_replaced() -> None:
    with pytest.raises(BackendError, match="'numba' cannot be used: float32 only"):
        choose("mlp", "numba", torch.zeros(1).double())
    with pytest.raises(BackendError, match="no backend named 'tcnn'"):
        choose("mlp", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="'tcnn' cannot be used: compiled for a GPU"):
        choose("hash_grid", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="no operation named 'sorting'"):
        availability("sorting")


def test_mixed_tensors_raise() -> None:
    with pytest.raises(BackendError, match="give all the same"):
        choose("mlp", "auto", torch.zeros(1), torch.zeros(1).double())


@pytest.mark.usefixtures("fresh")
def test_without_numba_the_reference_runs_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(BackendWarning, match="'torch' runs instead of 'numba': .*pip install numba") as warned:
        assert {choose(name, "auto", torch.zeros(1)) for name in OPERATIONS} == {"torch"}
    assert len(warned) == 1
    with pytest.raises(BackendError, match="pip install numba"):
        choose("mlp", "numba", torch.zeros(1))


@pytest.mark.usefixtures("gpu")
def test_gpu_without_triton_has_one_warning_and_a_reason_per_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_triton", lambda: (False, "install gcc"))
    with pytest.warns(BackendWarning, match="kernels: 'torch' runs instead of 'triton': install gcc") as warned:
        assert {backends._resolve_backend(name, "auto", "cuda", torch.float32) for name in OPERATIONS} == {"torch"}
    assert len(warned) == 1
    for name in OPERATIONS:
        assert explain(name, "cuda").reason.endswith("; not 'triton': install gcc") == ("triton" in OPERATIONS[name])


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_expected_backend_has_no_extra_reason(operation: str) -> None:
    for device, name in backends.DEVICE_BACKENDS.items():
        expected = name if name in OPERATIONS[operation] else "torch"
        verdict = explain(operation, device)
        assert (verdict.backend, "not '" in verdict.reason) == (expected, False)


@pytest.mark.usefixtures("fresh")
def test_call_beyond_limits_uses_the_next_backend_with_one_warning() -> None:
    unfit = {"numba": "rays of wood"}
    with pytest.warns(BackendWarning) as warned:
        assert [choose("ray_samples", "auto", torch.zeros(1), unfit=unfit) for _ in range(2)] == ["torch"] * 2
    limit = "given rays of wood, but 'numba' supports only rays that need no gradient"
    assert [str(record.message) for record in warned] == [f"ray_samples: 'torch' runs instead of 'numba': {limit}"]
    assert explain("ray_samples", "cpu", unfit).reason.endswith(f"; not 'numba': {limit}")
    assert choose("ray_samples", "torch", torch.zeros(1), unfit=unfit) == "torch"
    with pytest.raises(BackendError, match=f"ray_samples: backend 'numba' cannot be used: {limit}; use 'auto'"):
        choose("ray_samples", "numba", torch.zeros(1), unfit=unfit)


def test_availability_reports_limits() -> None:
    reported = {
        (record.operation, record.backend): record.limits for name in OPERATIONS for record in availability(name)
    }
    assert {key: limits for key, limits in reported.items() if limits} == {
        key: limits for key, limits in LIMITS.items() if key[1] in OPERATIONS[key[0]]
    }


@pytest.mark.parametrize(
    ("backend", "operation"),
    [
        triton_param(operation) if backend == "triton" else (backend, operation)
        for operation, names in OPERATIONS.items()
        for backend in names
    ],
)
def test_implementations_take_the_arguments_of_their_operation(backend: str, operation: str) -> None:
    package = importlib.import_module(f"blocknerf.kernels.{operation}")
    implementation = importlib.import_module(f"blocknerf.kernels.{operation}.{backend}_impl")
    names = [name for name in package.__all__ if "backend" in parameters(getattr(package, name))]
    assert names
    for name in names:
        given, expected = (parameters(getattr(module, name)) for module in (implementation, package))
        assert [word for word in given if word != "backend"] == [word for word in expected if word != "backend"]


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters) if inspect.isfunction(function) else []


def run_ray_samples(backend: str) -> torch.Tensor:
    ray = RayBundle(
        origins=torch.zeros(1, 3), directions=torch.ones(1, 3), pixel_radii=torch.ones(1)
    ).requires_grad_copy()
    return make_ray_samples(
        torch.tensor([[0.0, 1.0]]), ray, RaySpacing(near=0.1, far=9.0, linear_until=1.0), backend
    ).points


def run_encode_directions(backend: str) -> torch.Tensor:
    return encode_directions(torch.ones(1, 3).requires_grad_(), backend)


def run_encode_ray_inputs(backend: str) -> torch.Tensor:
    return encode_ray_inputs(torch.ones(1, 3).requires_grad_(), torch.ones(1, 4), backend)


def run_contraction(backend: str) -> torch.Tensor:
    return contract_to_unit_cube(torch.ones(1, 3), torch.ones(1).requires_grad_(), (0.0, 0.0, 0.0), 1.0, backend)[1]


@pytest.mark.parametrize(
    ("backend", "run"),
    [
        ("numba", run_ray_samples),
        ("numba", run_contraction),
        *(
            triton_param(run)
            for run in (run_ray_samples, run_contraction, run_encode_directions, run_encode_ray_inputs)
        ),
    ],
)
def test_requested_backend_without_the_needed_gradient_raises(backend: str, run: Callable[[str], torch.Tensor]) -> None:
    with pytest.raises(BackendError, match=f"{backend!r} cannot be used: given .* that need a gradient"):
        run(backend)
    assert run("auto").requires_grad  # and no warning


@needs_triton
def test_without_a_compiler_the_reason_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    monkeypatch.setattr(backends.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    usable, reason = backends._triton.__wrapped__()
    assert not usable
    assert "install gcc" in reason


def test_importing_kernels_loads_no_compiler() -> None:
    lines = [
        "import sys",
        *(f"import blocknerf.kernels.{operation}" for operation in OPERATIONS),
        "assert not {'numba', 'llvmlite', 'triton'} & set(sys.modules)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
