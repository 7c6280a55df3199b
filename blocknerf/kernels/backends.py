"""Which implementation of an operation runs where, and why."""

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
from types import MappingProxyType
from typing import Literal

import torch

from blocknerf.errors import BackendError

Backend = Literal["auto", "torch", "numba", "triton", "tcnn"]
"""`auto` takes the fastest usable one; the others are never replaced by another."""

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
"""The backends of each operation, fastest first. A new one is added here and to `_verdict`."""

_FORM = "grids of 2 or 4 features an entry under 2 layers, and 3 color layers of 16, 32 or 64"

FIXED = {"contraction": "footprints", "ray_encoding": "directions and exposures", "ray_samples": "rays"}
"""What no backend but the reference differentiates by, where it does."""

LIMITS: dict[tuple[str, str], str] = {
    ("hash_grid", "triton"): "grids of 2 or 4 features an entry",
    ("hash_grid", "tcnn"): "grids of 1, 2, 4 or 8 features an entry",
    ("radiance", "triton"): _FORM,
    ("marching", "triton"): _FORM,
    **{(name, fast): f"{what} that need no gradient" for name, what in FIXED.items() for fast in ("numba", "triton")},
}
"""What a backend takes where it does not take everything; the operation tells `choose` what it was given beyond it."""

WRITTEN_FOR = {"cpu": "numba", "cuda": "triton"}
"""The backend that is expected to run on each kind of device, where an operation has it."""

FITTING: Mapping[str, str] = MappingProxyType({})
"""Nothing is beyond the limits of any backend."""

TRITON_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton kernels run as Python on the processor, to test their arithmetic: only where asked for by name."""


class BackendWarning(UserWarning):
    """A slower backend runs than the one written for the device; the command line prints it as one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether one backend of one operation can be used for a device and dtype, and the reason."""

    operation: str
    backend: str
    usable: bool
    reason: str
    takes: str
    """What it takes, as in `LIMITS`; empty where it takes everything."""


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
        takes = LIMITS.get((operation, backend), "")
        verdicts.append(Availability(operation=operation, backend=backend, usable=usable, reason=reason, takes=takes))
    return tuple(verdicts)


def choose(operation: str, backend: str, *tensors: torch.Tensor, unfit: Mapping[str, str] = FITTING) -> str:
    """The backend to run for these tensors: the fastest usable for `auto`, else the one asked for.

    `unfit` names the backends whose `LIMITS` the call is beyond, each with what is beyond them. Where `auto` takes
    another than the one written for the device, a BackendWarning says why, once.

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
    chosen = _chosen(operation, backend, device.type, dtype)
    if chosen not in unfit:
        return chosen
    if backend != "auto":
        limit = _limit(chosen, unfit[chosen], LIMITS[operation, chosen])
        raise BackendError(f"{operation}: backend {backend!r} cannot be used: {limit}; use 'auto'")
    verdicts = availability(operation, device, dtype)
    taken = _fastest(verdicts, device.type, unfit)
    _tell(operation, taken.backend, chosen, _missed(verdicts, taken, device.type, unfit))
    return taken.backend


def choose_fixed(operation: str, backend: str, *tensors: torch.Tensor, moves: bool) -> str:
    """The same for an operation of `FIXED`; where what should be fixed moves, `auto` takes the reference on purpose.

    Raises:
        BackendError: as `choose`; or it moves, and the backend asked for would give no gradient.
    """
    if moves and backend == "auto":
        return choose(operation, "torch", *tensors)
    given = dict.fromkeys(("numba", "triton"), f"{FIXED[operation]} that need a gradient") if moves else FITTING
    return choose(operation, backend, *tensors, unfit=given)


def explain(operation: str, device: torch.device | str, unfit: Mapping[str, str] = FITTING) -> Availability:
    """The backend that `auto` takes for float32, and why; `unfit` is that of `choose`.

    Where it is not the one written for the device, the reason tells what is against that.
    """
    kind, verdicts = torch.device(device).type, availability(operation, device)
    taken = _fastest(verdicts, kind, unfit)
    missed = _missed(verdicts, taken, kind, unfit)
    return replace(taken, reason=f"{taken.reason}; not {WRITTEN_FOR[kind]!r}: {missed}") if missed else taken


@cache
def _chosen(operation: str, backend: str, device: str, dtype: torch.dtype) -> str:
    verdicts = availability(operation, device, dtype)
    if backend == "auto":
        taken = _fastest(verdicts, device, FITTING)
        if dtype == torch.float32:
            _tell("kernels", taken.backend, WRITTEN_FOR.get(device, ""), _missed(verdicts, taken, device, FITTING))
        return taken.backend
    for verdict in verdicts:
        if verdict.backend == backend and verdict.usable:
            return backend
        if verdict.backend == backend:
            raise BackendError(f"{operation}: backend {backend!r} cannot be used: {verdict.reason}; use 'auto'")
    raise BackendError(f"{operation}: no backend named {backend!r}; use {', '.join(OPERATIONS[operation])} or 'auto'")


def _fastest(verdicts: Sequence[Availability], device: str, unfit: Mapping[str, str]) -> Availability:
    out = {*unfit, "triton"} if device == "cpu" else set(unfit)
    return next(verdict for verdict in verdicts if verdict.usable and verdict.backend not in out)


def _missed(verdicts: Sequence[Availability], taken: Availability, device: str, unfit: Mapping[str, str]) -> str | None:
    """What is against the backend written for a device; None where it is taken, or there is none."""
    for verdict in verdicts:
        if verdict.backend == WRITTEN_FOR.get(device) and verdict != taken:
            beyond = unfit.get(verdict.backend) if verdict.usable else None
            return _limit(verdict.backend, beyond, verdict.takes) if beyond else verdict.reason
    return None


def _limit(backend: str, given: str, takes: str) -> str:
    return f"given {given}, and {backend!r} takes {takes}"


@cache
def _tell(what: str, taken: str, expected: str, reason: str | None) -> None:
    if reason is not None:
        warnings.warn(f"{what}: {taken!r} runs instead of {expected!r}: {reason}", BackendWarning, stacklevel=2)


def _verdict(backend: str, device: str, dtype: torch.dtype) -> tuple[bool, str]:
    if backend == "torch":
        return True, "plain PyTorch, any device and floating type"
    interpreted = backend == "triton" and TRITON_INTERPRET and device == "cpu"
    home = "cpu" if backend == "numba" or interpreted else "cuda"
    if device != home:
        return False, f"compiled for {'the processor' if home == 'cpu' else 'a GPU'}, the tensors are on {device}"
    if dtype != torch.float32:
        return False, f"float32 only, the tensors are {str(dtype).removeprefix('torch.')}"
    return {"numba": _numba, "triton": _triton, "tcnn": _tiny_cuda_nn}[backend]()


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
    if TRITON_INTERPRET:
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
