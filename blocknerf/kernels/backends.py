"""Which implementation of an operation runs where, and why."""

import importlib
import importlib.util
import os
import shutil
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from blocknerf.errors import BackendError

Backend = Literal["auto", "reference", "native", "fused", "tcnn"]
"""`auto` takes the fastest usable one; the others are never replaced by another."""

OPERATIONS: dict[str, tuple[str, ...]] = {
    "hash_grid": ("fused", "tcnn", "native", "reference"),
    "mlp": ("native", "reference"),
    "radiance": ("fused", "native", "reference"),
    "adam": ("fused", "native", "reference"),
    "contraction": ("fused", "native", "reference"),
    "conditions": ("fused", "reference"),
    "intervals": ("fused", "native", "reference"),
    "resampling": ("fused", "native", "reference"),
    "quadrature": ("fused", "native", "reference"),
    "histograms": ("fused", "native", "reference"),
    "marching": ("fused", "native", "reference"),
}
"""The backends of each operation, fastest first. A new one is added here and to `_verdict`."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton kernels run as Python on the processor, to test their arithmetic: only where asked for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether one backend of one operation can be used for a device and dtype, and the reason."""

    operation: str
    backend: str
    usable: bool
    reason: str


def availability(
    operation: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Availability, ...]:
    """Every backend of an operation, fastest first, with the reason why it can or cannot be used.

    Raises:
        BackendError: no such operation.
    """
    if operation not in OPERATIONS:
        raise BackendError(f"kernels: no operation named {operation!r}; known: {', '.join(OPERATIONS)}")
    verdicts = []
    for backend in OPERATIONS[operation]:
        usable, reason = _verdict(backend, torch.device(device).type, dtype)
        verdicts.append(Availability(operation=operation, backend=backend, usable=usable, reason=reason))
    return tuple(verdicts)


def choose(operation: str, backend: str, *tensors: torch.Tensor) -> str:
    """The backend to run for these tensors: the fastest usable for `auto`, else the one asked for.

    Raises:
        BackendError: the backend asked for does not exist or cannot be used here, or the tensors are mixed.
    """
    device, dtype = tensors[0].device, tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.device != device or tensor.dtype != dtype:
            raise BackendError(
                f"{operation}: tensors of {dtype} on {device} and of {tensor.dtype} on {tensor.device}; "
                "give all the same type and place"
            )
    return _chosen(operation, backend, device.type, dtype)


@cache
def _chosen(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
    verdicts = availability(operation, device, dtype)
    if backend == "auto":
        slow = "fused" if device == "cpu" else None
        return next(verdict.backend for verdict in verdicts if verdict.usable and verdict.backend != slow)
    for verdict in verdicts:
        if verdict.backend == backend and verdict.usable:
            return backend
        if verdict.backend == backend:
            raise BackendError(f"{operation}: backend {backend!r} cannot be used: {verdict.reason}; use 'auto'")
    raise BackendError(f"{operation}: no backend named {backend!r}; use {', '.join(OPERATIONS[operation])} or 'auto'")


def _verdict(backend: str, device: str, dtype: torch.dtype) -> tuple[bool, str]:
    if backend == "reference":
        return True, "plain PyTorch, any device and floating type"
    interpreted = backend == "fused" and INTERPRETED and device == "cpu"
    home = "cpu" if backend == "native" or interpreted else "cuda"
    if device != home:
        return False, f"compiled for {'the processor' if home == 'cpu' else 'a GPU'}, the tensors are on {device}"
    if dtype != torch.float32:
        return False, f"float32 only, the tensors are {str(dtype).removeprefix('torch.')}"
    return {"native": _numba, "fused": _triton, "tcnn": _tiny_cuda_nn}[backend]()


@cache
def _tiny_cuda_nn() -> tuple[bool, str]:
    # Looked for, not imported: without a GPU its import raises.
    if importlib.util.find_spec("tinycudann") is None:
        return False, "tiny-cuda-nn is not installed; it is built from its sources, with a CUDA compiler"
    return True, "tiny-cuda-nn, half precision"


@cache
def _triton() -> tuple[bool, str]:
    try:
        triton = importlib.import_module("triton")
    except ImportError as error:
        return False, f"Triton does not load ({error}); it comes with PyTorch for CUDA"
    if INTERPRETED:
        return True, f"Triton {triton.__version__}, interpreted on the processor for tests"
    if not _builds_launchers():
        return False, (
            "Triton builds its launchers with a C compiler and Python's headers, and there are none; install gcc and "
            "python3-dev, or set CC to a compiler"
        )
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return False, f"needs compute capability 8.0 or newer, this GPU has {major}.{minor}"
    return True, f"Triton {triton.__version__} on {torch.cuda.get_device_name()}"


def _builds_launchers() -> bool:
    """Whether Triton finds what it builds a kernel's launcher with."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    # Debian's own scheme for installing names a folder that headers are never in.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    return bool(compiler) and (Path(sysconfig.get_paths(scheme)["include"]) / "Python.h").is_file()


@cache
def _numba() -> tuple[bool, str]:
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        return False, f"Numba does not load ({error}); install it with `pip install numba`"
    return True, f"Numba {numba.__version__}, float32 on the processor"
