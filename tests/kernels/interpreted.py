"""The fused backend as a parameter of tests, which Triton's interpreter runs on the processor."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which is there for Linux x86-64")


def fused(*values: Any) -> Any:
    """A set of parameters that begins with the fused backend, skipped where Triton is not installed."""
    return pytest.param("triton", *values, marks=needs_triton)


def prefer_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` take the fused backend here, as on a GPU, and else the reference; nothing was warned of."""

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        usual = "triton" if "triton" in OPERATIONS[operation] else "torch"
        return usual if backend == "auto" else backend

    monkeypatch.setattr(backends, "_chosen", choose)
    monkeypatch.setattr(backends, "_numba", lambda: (False, "not on a GPU"))
    monkeypatch.setitem(backends.WRITTEN_FOR, "cpu", "triton")
    backends._tell.cache_clear()
