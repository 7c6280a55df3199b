"""One step of Adam over one tensor, with the backend chosen and the input checked."""

from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.adam import torch_impl
from blocknerf.kernels.backends import Backend, choose


def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    first: Float[Tensor, "*shape"],
    second: Float[Tensor, "*shape"],
    *,
    step: int | Tensor,
    rate: float | Tensor,
    betas: tuple[float, float],
    epsilon: float,
    half: Float16[Tensor, "*shape"] | None = None,
    backend: Backend = "auto",
) -> None:
    """Update a parameter and its two moments in place (Kingma & Ba 2015).

    An entry whose gradient is exactly zero is left alone, parameter and moments, as instant-ngp does for the
    entries of a hash table that no sample of the step touched. Bias is corrected by `step`, counted from 1, for all
    entries alike. A NaN gradient is not zero: it makes its parameter NaN.

    `half` is a copy of the parameter in half precision that is kept up to date; it must have been one before, for
    entries left alone may not be copied. `step` and `rate` may be 0-dimensional float32 tensors beside the parameter,
    which are read when the work is done, so that a captured CUDA graph can advance.

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: tensors differ in shape or place or are not contiguous, or `step` is less than one.
    """
    tensors = (parameter.detach(), gradient, first, second)
    _check(tensors if half is None else (*tensors, half), step, rate)
    chosen = choose("adam", backend, *tensors)
    implementation = torch_impl.adam_step
    if chosen == "triton":
        from blocknerf.kernels.adam import triton_impl

        implementation = triton_impl.adam_step
    elif chosen == "numba":
        from blocknerf.kernels.adam import numba_impl

        implementation = numba_impl.adam_step
    implementation(*tensors, step, rate, betas, epsilon, half)


def _check(tensors: tuple[Tensor, ...], step: int | Tensor, rate: float | Tensor) -> None:
    if any(tensor.shape != tensors[0].shape or not tensor.is_contiguous() for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"adam: tensors must be contiguous and of one shape, these are {shapes}")
    for name, number in (("step", step), ("rate", rate)):
        if isinstance(number, Tensor) and (number.shape or number.device != tensors[0].device):
            raise ValueError(f"adam: {name} must be a number or a 0-dimensional tensor on {tensors[0].device}")
    # A number in a GPU's memory is not looked at: that would wait for all work before it.
    if not isinstance(step, Tensor) and step < 1:
        raise ValueError(f"adam: step {step} is not a count from 1")
