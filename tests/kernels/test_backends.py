"""Choosing a backend: the fastest usable one, with the reason, and never another than the one asked for."""

import subprocess
import sys

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS, availability, choose
from tests.kernels.interpreted import needs_triton


@pytest.mark.parametrize("operation", OPERATIONS)
def test_float32_on_the_processor_runs_natively_and_the_rest_by_reference(operation: str) -> None:
    native = "native" if "native" in OPERATIONS[operation] else "reference"
    assert choose(operation, "auto", torch.zeros(1)) == native
    assert choose(operation, "auto", torch.zeros(1).double()) == "reference"
    assert choose(operation, "auto", torch.zeros(1, device="meta")) == "reference"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_verdict_has_a_reason(operation: str) -> None:
    verdicts = availability(operation, "meta", torch.float32)
    assert [verdict.backend for verdict in verdicts] == list(OPERATIONS[operation])
    usable = {verdict.backend: verdict.usable for verdict in verdicts}
    assert usable == {backend: backend == "reference" for backend in OPERATIONS[operation]}
    assert "meta" in verdicts[0].reason
    assert all(verdict.reason for verdict in verdicts)


def test_a_backend_asked_for_by_name_is_never_replaced() -> None:
    with pytest.raises(BackendError, match="'native' cannot be used: float32 only"):
        choose("mlp", "native", torch.zeros(1).double())
    with pytest.raises(BackendError, match="no backend named 'tcnn'"):
        choose("mlp", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="'tcnn' cannot be used: compiled for a GPU"):
        choose("hash_grid", "tcnn", torch.zeros(1))
    with pytest.raises(BackendError, match="no operation named 'sorting'"):
        availability("sorting")


def test_mixed_tensors_are_refused() -> None:
    with pytest.raises(BackendError, match="give all the same"):
        choose("mlp", "auto", torch.zeros(1), torch.zeros(1).double())


def test_without_numba_the_reference_runs_and_the_reason_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for cached in (backends._numba, backends._chosen):
        cached.cache_clear()
    try:
        assert choose("mlp", "auto", torch.zeros(1)) == "reference"
        with pytest.raises(BackendError, match="pip install numba"):
            choose("mlp", "native", torch.zeros(1))
    finally:
        for cached in (backends._numba, backends._chosen):
            cached.cache_clear()


@needs_triton
def test_without_a_compiler_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "INTERPRETED", False)
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
