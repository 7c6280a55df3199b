"""Backend selection: which implementation of an operation runs on which device, and why."""

import importlib
import importlib.util
import os
import shutil
import sysconfig
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Literal

import torch

from blocknerf.errors import BackendError

Backend = Literal["auto", "torch", "numba", "triton", "tcnn"]
"""`auto` selects the fastest usable backend. An explicitly requested backend is never replaced."""

OPERATIONS: dict[str, tuple[str, ...]] = {
    "hash_grid": ("triton", "tcnn", "numba", "torch"),
    "mlp": ("numba", "torch"),
    "radiance": ("triton", "numba", "torch"),
    "adam": ("triton", "numba", "torch"),
    "contraction": ("triton", "numba", "torch"),
    "ray_encoding": ("triton", "torch"),
    "ray_samples": ("triton", "numba", "torch"),
    "pdf_sampling": ("triton", "numba", "torch"),
    "volume_rendering": ("triton", "numba", "torch"),
    "ray_losses": ("triton", "numba", "torch"),
    "marching": ("triton", "numba", "torch"),
}
"""The backends of each operation, fastest first. Add a new one here and to `_check_backend`."""

_NETWORK_LIMITS = "grids with 2 or 4 features per entry and 2 layers, and 3 color layers of width 16, 32 or 64"

CONSTANT_INPUTS = {"contraction": "footprints", "ray_encoding": "directions", "ray_samples": "rays"}
"""Inputs that only the PyTorch reference differentiates, by operation."""

LIMITS: dict[tuple[str, str], str] = {
    ("hash_grid", "triton"): "grids with 2 or 4 features per entry",
    ("hash_grid", "tcnn"): "grids with 1, 2, 4 or 8 features per entry",
    ("radiance", "triton"): _NETWORK_LIMITS,
    ("marching", "triton"): _NETWORK_LIMITS,
    **{
        (name, fast): f"{what} that need no gradient"
        for name, what in CONSTANT_INPUTS.items()
        for fast in ("numba", "triton")
    },
}
"""What a backend supports, if not everything. Operations pass what exceeds it to `find_implementation`."""

DEVICE_BACKENDS = {"cpu": "numba", "cuda": "triton"}
"""The expected backend of each device type, for operations that have it."""

NO_LIMITS: Mapping[str, str] = MappingProxyType({})
"""The call exceeds no backend's limits."""

TRITON_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton kernels are interpreted on the CPU, to test their arithmetic. Only if explicitly requested."""


class BackendWarning(UserWarning):
    """A slower backend runs than expected for the device. The command line prints this as one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend of an operation can be used for a device and dtype, and the reason."""

    operation: str
    backend: str
    usable: bool
    reason: str
    limits: str
    """What it supports (`LIMITS`); empty if everything."""


def availability(
    operation: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Availability, ...]:
    """Return all backends of an operation, fastest first, each with the reason why it can or cannot be used.

    Raises:
        BackendError: There is no such operation.
    """
    if operation not in OPERATIONS:
        raise BackendError(f"kernels: no operation named {operation!r}; known: {', '.join(OPERATIONS)}")
    verdicts = []
    for backend in OPERATIONS[operation]:
        usable, reason = _check_backend(backend, torch.device(device).type, dtype)
        limits = LIMITS.get((operation, backend), "")
        verdicts.append(Availability(operation=operation, backend=backend, usable=usable, reason=reason, limits=limits))
    return tuple(verdicts)


def choose(operation: str, backend: str, *tensors: torch.Tensor, unfit: Mapping[str, str] = NO_LIMITS) -> str:
    """Return the backend for these tensors: the fastest usable one for `auto`, else the requested one.

    `unfit` maps each backend that cannot run this call to what exceeds its `LIMITS`. If `auto` selects another
    backend than expected for the device, a BackendWarning states the reason, once.

    Raises:
        BackendError: The requested backend does not exist or cannot be used here, or devices or dtypes differ.
    """
    device, dtype = tensors[0].device, tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.device != device or tensor.dtype != dtype:
            raise BackendError(
                f"{operation}: tensors of {dtype} on {device} and of {tensor.dtype} on {tensor.device}; "
                "give all the same type and device"
            )
    selected = _resolve_backend(operation, backend, device.type, dtype)
    if selected not in unfit:
        return selected
    if backend != "auto":
        limit = _describe_limit(selected, unfit[selected], LIMITS[operation, selected])
        raise BackendError(f"{operation}: backend {backend!r} cannot be used: {limit}; use 'auto'")
    verdicts = availability(operation, device, dtype)
    fallback = _fastest(verdicts, device.type, unfit)
    _warn_fallback(operation, fallback.backend, selected, _why_not_default(verdicts, fallback, device.type, unfit))
    return fallback.backend


def find_implementation(
    operation: str,
    backend: str,
    *tensors: torch.Tensor,
    constants: Sequence[torch.Tensor] = (),
    unfit: Mapping[str, str] = NO_LIMITS,
) -> ModuleType:
    """Return the module that runs this call: `BACKEND_impl` of the backend that `choose` returns for all tensors.

    Every implementation has the functions of the operation's `api.py`, with the same arguments but `backend`.
    `constants` are the operation's `CONSTANT_INPUTS`. If one of them needs a gradient, `auto` selects the reference.

    Raises:
        BackendError: As `choose`, or a constant needs a gradient that the requested backend does not compute.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in constants):
        if backend == "auto":
            backend = "torch"
        reason = f"{CONSTANT_INPUTS[operation]} that need a gradient"
        unfit = {**unfit, **dict.fromkeys(("numba", "triton"), reason)}
    return _load(operation, choose(operation, backend, *tensors, *constants, unfit=unfit))


@cache
def _load(operation: str, backend: str) -> ModuleType:
    return importlib.import_module(f"blocknerf.kernels.{operation}.{backend}_impl")


def explain(operation: str, device: torch.device | str, unfit: Mapping[str, str] = NO_LIMITS) -> Availability:
    """Return the backend that `auto` selects for float32, and why. `unfit` is as in `choose`.

    If it is not the expected backend of the device, the reason says why not.
    """
    device_type, verdicts = torch.device(device).type, availability(operation, device)
    selected = _fastest(verdicts, device_type, unfit)
    why_not = _why_not_default(verdicts, selected, device_type, unfit)
    return (
        replace(selected, reason=f"{selected.reason}; not {DEVICE_BACKENDS[device_type]!r}: {why_not}")
        if why_not
        else selected
    )


@cache
def _resolve_backend(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
    verdicts = availability(operation, device, dtype)
    if backend == "auto":
        selected = _fastest(verdicts, device, NO_LIMITS)
        if dtype == torch.float32:
            _warn_fallback(
                "kernels", selected.backend, DEVICE_BACKENDS.get(device, ""),
                _why_not_default(verdicts, selected, device, NO_LIMITS),
            )  # fmt: skip
        return selected.backend
    for verdict in verdicts:
        if verdict.backend == backend and verdict.usable:
            return backend
        if verdict.backend == backend:
            raise BackendError(f"{operation}: backend {backend!r} cannot be used: {verdict.reason}; use 'auto'")
    raise BackendError(f"{operation}: no backend named {backend!r}; use {', '.join(OPERATIONS[operation])} or 'auto'")


def _fastest(verdicts: Sequence[Availability], device: str, unfit: Mapping[str, str]) -> Availability:
    excluded = {*unfit, "triton"} if device == "cpu" else set(unfit)
    return next(verdict for verdict in verdicts if verdict.usable and verdict.backend not in excluded)


def _why_not_default(
    verdicts: Sequence[Availability], selected: Availability, device: str, unfit: Mapping[str, str]
) -> str | None:
    """Return why the expected backend of a device is not used; None if it is, or if there is none."""
    for verdict in verdicts:
        if verdict.backend == DEVICE_BACKENDS.get(device) and verdict != selected:
            beyond = unfit.get(verdict.backend) if verdict.usable else None
            return _describe_limit(verdict.backend, beyond, verdict.limits) if beyond else verdict.reason
    return None


def _describe_limit(backend: str, beyond: str, limits: str) -> str:
    return f"given {beyond}, but {backend!r} supports only {limits}"


@cache
def _warn_fallback(what: str, selected: str, expected: str, reason: str | None) -> None:
    if reason is not None:
        warnings.warn(f"{what}: {selected!r} runs instead of {expected!r}: {reason}", BackendWarning, stacklevel=2)


def _check_backend(backend: str, device: str, dtype: torch.dtype) -> tuple[bool, str]:
    if backend == "torch":
        return True, "plain PyTorch, any device and floating type"
    interpreted = backend == "triton" and TRITON_INTERPRET and device == "cpu"
    supported = "cpu" if backend == "numba" or interpreted else "cuda"
    if device != supported:
        return False, f"compiled for {'the CPU' if supported == 'cpu' else 'a GPU'}, the tensors are on {device}"
    if dtype != torch.float32:
        return False, f"float32 only, the tensors are {str(dtype).removeprefix('torch.')}"
    return {"numba": _numba, "triton": _triton, "tcnn": _tiny_cuda_nn}[backend]()


@cache
def _tiny_cuda_nn() -> tuple[bool, str]:
    # Only search for it: without a GPU its import raises.
    if importlib.util.find_spec("tinycudann") is None:
        return False, "tiny-cuda-nn is not installed; build it from source with a CUDA compiler"
    return True, "tiny-cuda-nn, half precision"


@cache
def _triton() -> tuple[bool, str]:
    try:
        triton = importlib.import_module("triton")
    except ImportError as error:
        return False, f"Triton does not load ({error}); it comes with PyTorch for CUDA"
    if TRITON_INTERPRET:
        return True, f"Triton {triton.__version__}, interpreted on the CPU for tests"
    if not _builds_launchers():
        return False, (
            "Triton needs a C compiler and Python's headers to build its launchers, and finds none; install gcc and "
            "python3-dev, or set CC to a compiler"
        )
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return False, f"needs compute capability 8.0 or newer, this GPU has {major}.{minor}"
    return True, f"Triton {triton.__version__} on {torch.cuda.get_device_name()}"


def _builds_launchers() -> bool:
    """Return whether Triton finds the tools to build a kernel's launcher."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    # Debian's own install scheme names a folder that never contains headers.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    return bool(compiler) and (Path(sysconfig.get_paths(scheme)["include"]) / "Python.h").is_file()


@cache
def _numba() -> tuple[bool, str]:
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        return False, f"Numba does not load ({error}); install it with `pip install numba`"
    return True, f"Numba {numba.__version__}, float32 on the CPU"
