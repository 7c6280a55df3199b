"""One Adam step over one tensor."""

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.backends import Backend, find_implementation


def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    exp_avg: Float[Tensor, "*shape"],
    exp_avg_sq: Float[Tensor, "*shape"],
    *,
    step: int | Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    epsilon: float,
    half_copy: Float16[Tensor, "*shape"] | None = None,
    backend: Backend = "auto",
) -> None:
    """Update a parameter and its two moments in place (Kingma & Ba 2015).

    An entry with a gradient of exactly zero is skipped, parameter and moments, as instant-ngp does for hash table
    entries that no sample of the step touched. Bias is corrected by `step`, counted from 1, for all entries alike.
    A NaN gradient is not zero: it makes its parameter NaN.

    `half_copy` is a half-precision copy of the parameter that is kept up to date. It must be up to date before the
    call, because skipped entries may not be copied. `step` and `lr` may be 0-dimensional float32 tensors on the
    parameter's device. They are read when the kernel runs, so a captured CUDA graph can advance.

    Raises:
        BackendError: The requested backend cannot be used here.
        ValueError: Tensors differ in shape or device or are not contiguous, or `step` is less than one.
    """
    tensors = (parameter.detach(), gradient, exp_avg, exp_avg_sq)
    _check(tensors if half_copy is None else (*tensors, half_copy), step, lr)
    implementation = find_implementation("adam", backend, *tensors)
    implementation.adam_step(*tensors, step, lr, betas, epsilon, half_copy)


def _check(tensors: tuple[Tensor, ...], step: int | Tensor, lr: float | Tensor) -> None:
    if any(tensor.shape != tensors[0].shape or not tensor.is_contiguous() for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"adam: tensors must be contiguous and have one shape, but have {shapes}")
    for name, number in (("step", step), ("lr", lr)):
        if isinstance(number, Tensor) and (number.shape or number.device != tensors[0].device):
            raise ValueError(f"adam: {name} must be a number or a 0-dimensional tensor on {tensors[0].device}")
    # A step in GPU memory is not checked: reading it would wait for all earlier work.
    if not isinstance(step, Tensor) and step < 1:
        raise ValueError(f"adam: step {step} is less than 1; steps count from 1")
