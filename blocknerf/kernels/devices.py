"""Where tensors live: what a user asks for, checked before any work is begun."""

import os

import torch

from blocknerf.errors import BackendError

Device = str
"""`auto`, `cpu`, `cuda`, or one of several GPUs as `cuda:1`; `auto` takes the GPU where there is one."""


def resolve_device(device: Device = "auto") -> torch.device:
    """The device of that name, made the one that kernels run on.

    Raises:
        BackendError: there is no such device here.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise BackendError(f"--device {device}: is no device; give auto, cpu, cuda, or one of several GPUs as cuda:1")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise BackendError(f"--device {device}: {_what_is_there(count)}; give auto to take what is there")
    return _ready(int(number) if number else torch.cuda.current_device())


def device_name(device: torch.device) -> str:
    """What a record calls a device: the GPU's own name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def set_deterministic(wanted: bool) -> None:
    """Whether operations may add up in any order, which on a GPU is faster. On the processor none ever does.

    Where it is wanted, an operation of PyTorch that has no fixed order raises. Kernels ask
    `torch.are_deterministic_algorithms_enabled()`. Call it before anything is computed on a GPU: its matrix
    products read their setting once.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not where nothing changes: the call imports PyTorch's compiler, some 800 modules. The mode is 0 for any order, 1
    # for a warning, 2 for an error.
    if torch.get_deterministic_debug_mode() != (2 if wanted else 0):
        torch.use_deterministic_algorithms(wanted)
    # Else every tensor that is made without values is filled with some first, to no purpose here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _ready(number: int) -> torch.device:
    """A GPU as the process's current one, with the settings that results depend on."""
    torch.cuda.set_device(number)
    # PyTorch's own matrix products turn cameras and poses, too: ten bits of TF32 would move a ray by pixels. Networks
    # run in kernels of this package, which choose their own precision (`kernels.precision`).
    torch.set_float32_matmul_precision("highest")
    return torch.device("cuda", number)


def _what_is_there(count: int) -> str:
    if count:
        return f"there are {count} GPUs, from cuda:0 to cuda:{count - 1}" if count > 1 else "there is one GPU, cuda:0"
    if torch.version.cuda is None:
        return "this PyTorch is built for the processor alone"
    return "PyTorch finds no GPU that it can use"
