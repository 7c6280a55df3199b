"""The triton backend as a test parameter, run by Triton's interpreter on the CPU."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="needs Triton, which is available for Linux x86-64"
)


def triton_param(*values: Any) -> Any:
    """Return test parameters that start with the triton backend; skipped if Triton is not installed."""
    return pytest.param("triton", *values, marks=needs_triton)


def prefer_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `auto` select triton, as on a GPU, or else the reference, with no earlier warnings."""

    def choose(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
        default = "triton" if "triton" in OPERATIONS[operation] else "torch"
        return default if backend == "auto" else backend

    monkeypatch.setattr(backends, "_resolve_backend", choose)
    monkeypatch.setattr(backends, "_numba", lambda: (False, "not on a GPU"))
    monkeypatch.setitem(backends.DEVICE_BACKENDS, "cpu", "triton")
    backends._warn_fallback.cache_clear()
