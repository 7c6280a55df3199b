"""The Adam step in Numba for the processor, float32: one pass over memory, none over what no sample touched."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float, Float16
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.precision import HALF_MAX
from blocknerf.kernels.threads import apply_numba_threads

BLOCK = 64
"""Entries looked at together: four cache lines, of which the moments and parameters stay unread when all are zero."""

SPAN = 256
"""Blocks that a thread takes at once."""

_ZERO = np.float32(0.0)


def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    first: Float[Tensor, "*shape"],
    second: Float[Tensor, "*shape"],
    step: int | Tensor,
    rate: float | Tensor,
    betas: tuple[float, float],
    epsilon: float,
    half: Float16[Tensor, "*shape"] | None,
) -> None:
    """What `reference.adam_step` does, by compiled loops."""
    # Waking a second thread costs more than a small tensor.
    apply_numba_threads(most=1 + parameter.numel() // (BLOCK * SPAN))
    arrays = [tensor.detach().numpy().reshape(-1) for tensor in (parameter, gradient, first, second)]
    step, rate = int(step), float(rate)
    size = rate / (1 - betas[0] ** step)
    scale = (1 - betas[1] ** step) ** -0.5
    settings = np.array([*betas, size, scale, epsilon], np.float32)
    _step(*arrays, settings)
    if half is not None:
        half.copy_(parameter.clamp(-HALF_MAX, HALF_MAX))


@njit(parallel=True, fastmath={"contract", "nsz"}, error_model="numpy", cache=True)
@no_type_check
def _step(parameter, gradient, first, second, settings):
    count = parameter.shape[0]
    for span in prange((count + SPAN * BLOCK - 1) // (SPAN * BLOCK)):
        for start in range(span * SPAN * BLOCK, min((span + 1) * SPAN * BLOCK, count), BLOCK):
            end = min(start + BLOCK, count)
            if _any(gradient[start:end]):
                _update(parameter[start:end], gradient[start:end], first[start:end], second[start:end], settings)


@njit
@no_type_check
def _any(gradient):
    found = 0
    for index in range(gradient.shape[0]):
        found |= gradient[index] != _ZERO
    return found != 0


@njit(fastmath={"contract", "nsz"}, error_model="numpy")
@no_type_check
def _update(parameter, gradient, first, second, settings):
    keep_first, keep_second, size, scale, epsilon = settings[0], settings[1], settings[2], settings[3], settings[4]
    new_first, new_second = np.float32(1) - keep_first, np.float32(1) - keep_second
    for index in range(parameter.shape[0]):
        slope = gradient[index]
        mean = keep_first * first[index] + new_first * slope
        square = keep_second * second[index] + new_second * slope * slope
        value = parameter[index] - size * mean / (np.sqrt(square) * scale + epsilon)
        # Selected rather than branched on, so that the loop is vector instructions.
        touched = slope != _ZERO
        parameter[index] = value if touched else parameter[index]
        first[index] = mean if touched else first[index]
        second[index] = square if touched else second[index]
