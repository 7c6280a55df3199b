"""Numba (CPU, float32) Adam step: one pass over memory that skips blocks without gradients."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float16
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.devices import HALF_MAX
from blocknerf.kernels.threads import apply_numba_threads

BLOCK_SIZE = 64
"""Entries tested together (four cache lines). If all gradients are zero, moments and parameters are not read."""

CHUNK_PER_THREAD = 256
"""Blocks per unit of work of a thread."""

_ZERO = np.float32(0.0)


def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    exp_avg: Float[Tensor, "*shape"],
    exp_avg_sq: Float[Tensor, "*shape"],
    step: int | Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    epsilon: float,
    half_copy: Float16[Tensor, "*shape"] | None,
) -> None:
    """Numba version of `torch_impl.adam_step`."""
    # Waking a second thread costs more than updating a small tensor.
    apply_numba_threads(max_threads=1 + parameter.numel() // (BLOCK_SIZE * CHUNK_PER_THREAD))
    arrays = [tensor.detach().numpy().reshape(-1) for tensor in (parameter, gradient, exp_avg, exp_avg_sq)]
    step, lr = int(step), float(lr)
    step_size = lr / (1 - betas[0] ** step)
    inv_sqrt_correction = (1 - betas[1] ** step) ** -0.5
    settings = np.array([*betas, step_size, inv_sqrt_correction, epsilon], np.float32)
    _step(*arrays, settings)
    if half_copy is not None:
        half_copy.copy_(parameter.clamp(-HALF_MAX, HALF_MAX))


@njit(parallel=True, fastmath={"contract", "nsz"}, error_model="numpy", cache=True)
@no_type_check
def _step(parameter, gradient, exp_avg, exp_avg_sq, settings):
    count = parameter.shape[0]
    for chunk in prange((count + CHUNK_PER_THREAD * BLOCK_SIZE - 1) // (CHUNK_PER_THREAD * BLOCK_SIZE)):
        for start in range(
            chunk * CHUNK_PER_THREAD * BLOCK_SIZE, min((chunk + 1) * CHUNK_PER_THREAD * BLOCK_SIZE, count), BLOCK_SIZE
        ):
            end = min(start + BLOCK_SIZE, count)
            if _any(gradient[start:end]):
                _update(parameter[start:end], gradient[start:end], exp_avg[start:end], exp_avg_sq[start:end], settings)


@njit
@no_type_check
def _any(gradient):
    any_nonzero = 0
    for index in range(gradient.shape[0]):
        any_nonzero |= gradient[index] != _ZERO
    return any_nonzero != 0


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
@no_type_check
def _update(parameter, gradient, exp_avg, exp_avg_sq, settings):
    beta1 = settings[0]
    beta2 = settings[1]
    step_size = settings[2]
    inv_sqrt_correction = settings[3]
    epsilon = settings[4]
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    for index in range(parameter.shape[0]):
        grad = gradient[index]
        new_avg = beta1 * exp_avg[index] + rest1 * grad
        new_avg_sq = beta2 * exp_avg_sq[index] + rest2 * grad * grad
        value = parameter[index] - step_size * new_avg / (np.sqrt(new_avg_sq) * inv_sqrt_correction + epsilon)
        # Select instead of branching, so that LLVM vectorizes the loop.
        has_grad = grad != _ZERO
        parameter[index] = value if has_grad else parameter[index]
        exp_avg[index] = new_avg if has_grad else exp_avg[index]
        exp_avg_sq[index] = new_avg_sq if has_grad else exp_avg_sq[index]
