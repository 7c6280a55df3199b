"""The user's device, resolved and checked before any work starts, and the precision of computations on a GPU.

Mixed precision on a GPU:

- Hash tables: a float32 master copy that Adam updates, and a half-precision copy that gathers read.
- Activations between kernels, and operands of forward matrix products: half precision, with float32 sums.
- Gradients: float32; operands of their matrix products are bfloat16, which has the range of float32. Nothing
  underflows, so no loss scaling is needed. Hash table gradients are summed by float32 atomics on every GPU.
- Density, transmittance, weights, distances and colors: float32. Half-precision values saturate instead of overflowing;
  NaN stays NaN, so that training detects it.
- Parameters, moments and files on disk: float32, so a checkpoint does not depend on the device it was trained on.
"""

import os

import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.backends import TRITON_INTERPRET

Device = str
"""`auto`, `cpu`, `cuda`, or one of several GPUs as `cuda:1`. `auto` selects the GPU if there is one."""

STORAGE_DTYPE = torch.float16
"""Type of hash table copies and of activations between kernels."""
HALF_MAX = 65504.0
"""Largest finite `STORAGE_DTYPE`; activations are clamped to it."""
MATMUL_DTYPE = torch.float32 if TRITON_INTERPRET else torch.bfloat16
"""Operand type of backward matrix products. Triton's interpreter would read the bits of a bfloat16 as an integer."""
FIXED_POINT = float(1 << 40)
"""Scale of hash table gradients that are summed as integers, for a result that does not depend on order."""


def resolve_device(device: Device = "auto") -> torch.device:
    """Return the device of that name, and make a GPU the current device.

    Raises:
        BackendError: There is no such device here.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise BackendError(f"--device {device}: not a device; give auto, cpu, cuda, or one of several GPUs as cuda:1")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise BackendError(f"--device {device}: {_available_gpus(count)}; give auto to use what is available")
    return _select_gpu(int(number) if number else torch.cuda.current_device())


def device_name(device: torch.device) -> str:
    """Return the name of a device for records: the GPU's model name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def set_deterministic(wanted: bool) -> None:
    """Set whether GPU operations must sum in a fixed order, which is slower. CPU kernels always do.

    If `wanted`, PyTorch operations without a deterministic version raise. Kernels check
    `torch.are_deterministic_algorithms_enabled()`. Call this before the first GPU computation: cuBLAS reads its
    setting once.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Skip the call if nothing changes: it imports PyTorch's compiler, some 800 modules. Mode 0 is any order, 1 warns, 2
    # raises.
    if torch.get_deterministic_debug_mode() != (2 if wanted else 0):
        torch.use_deterministic_algorithms(wanted)
    # Otherwise PyTorch fills every uninitialized tensor first, which serves no purpose here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _select_gpu(number: int) -> torch.device:
    """Make a GPU the current device, with the settings that results depend on."""
    torch.cuda.set_device(number)
    # PyTorch's own matrix products also transform cameras and poses: the ten bits of TF32 would move a ray by pixels.
    # Networks run in kernels of this package, which choose their own precision (see above).
    torch.set_float32_matmul_precision("highest")
    return torch.device("cuda", number)


def _available_gpus(count: int) -> str:
    if count:
        return f"there are {count} GPUs, from cuda:0 to cuda:{count - 1}" if count > 1 else "there is one GPU, cuda:0"
    if torch.version.cuda is None:
        return "this PyTorch is a CPU-only build"
    return "PyTorch finds no GPU that it can use"
