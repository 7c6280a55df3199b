"""One step of Adam over one tensor, with the backend chosen and the input checked."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.adam import reference
from blocknerf.kernels.backends import Backend, choose


def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    first: Float[Tensor, "*shape"],
    second: Float[Tensor, "*shape"],
    *,
    step: int,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float = 0.0,
    zero_gradient: bool = True,
    backend: Backend = "auto",
) -> None:
    """Update a parameter and its two moments in place (Kingma & Ba 2015; decay decoupled, Loshchilov & Hutter 2019).

    An entry whose gradient is exactly zero is left alone - parameter, moments and decay - as instant-ngp does for the
    entries of a hash table that no sample of the step touched. Bias is corrected by `step`, counted from 1, for all
    entries alike. A NaN gradient is not zero: it makes its parameter NaN. The gradient is zeroed unless asked not to.

    Raises:
        BackendError: the backend asked for cannot be used here.
        ValueError: tensors differ in shape or are not contiguous, or `step` is less than one.
    """
    tensors = (parameter.detach(), gradient, first, second)
    if any(tensor.shape != parameter.shape or not tensor.is_contiguous() for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"adam: tensors must be contiguous and of one shape, these are {shapes}")
    if step < 1:
        raise ValueError(f"adam: step {step} is not a count from 1")
    implementation = reference.adam_step
    if choose("adam", backend, *tensors) == "native":
        from blocknerf.kernels.adam import native

        implementation = native.adam_step
    implementation(*tensors, step, rate, betas, epsilon, weight_decay, zero_gradient)
