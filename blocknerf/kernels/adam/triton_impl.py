"""The Adam step in Triton for a GPU, float32: one pass over memory, none over what no sample touched."""

import math
from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.precision import HALF_MAX
from blocknerf.kernels.triton_ops import absorbed, within

GROUPS = 256
"""Groups of four entries of one program. One gradient that is not zero has its whole group read: 16 bytes at once."""


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
    """What `reference.adam_step` does, in one kernel; entries left alone are not copied either."""
    count = parameter.numel()
    if not count:
        return
    numbers = [number if isinstance(number, Tensor) else float(number) for number in (step, rate)]
    in_memory = [isinstance(number, Tensor) for number in numbers]
    # What is left of one, and logarithms, are taken in double precision: single precision would lose digits.
    rests = [1 - beta for beta in betas]
    settings = (*betas, *rests, *(math.log(max(beta, 1e-30)) for beta in betas), epsilon, HALF_MAX)
    tensors = (parameter.detach(), gradient, first, second, half)
    grid = (triton.cdiv(count, 4 * GROUPS),)
    _step[grid](*tensors, *numbers, *map(float, settings), count, *in_memory, GROUPS)


@triton.jit
@no_type_check
def _step(
    parameter, gradient, first, second, half, step, rate,
    keep_first, keep_second, new_first, new_second, log_first, log_second, epsilon, largest, count,
    STEP_IN_MEMORY: tl.constexpr, RATE_IN_MEMORY: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    step, rate = _number(step, STEP_IN_MEMORY), _number(rate, RATE_IN_MEMORY)
    size = rate / absorbed(-step * log_first)
    scale = 1.0 / tl.sqrt(absorbed(-step * log_second))
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    at = group[:, None] * 4 + tl.arange(0, 4)[None, :]
    inside = at < count
    slope = tl.load(gradient + at, mask=inside, other=0.0)
    touched = slope != 0.0
    # What is read and written must not depend on the entry, or it would go entry by entry.
    read = inside & (tl.max(touched.to(tl.int32), 1) > 0)[:, None]
    before = tl.load(first + at, mask=read, other=0.0)
    mean = keep_first * before + new_first * slope
    tl.store(first + at, tl.where(touched, mean, before), mask=read)
    before = tl.load(second + at, mask=read, other=0.0)
    square = keep_second * before + new_second * slope * slope
    tl.store(second + at, tl.where(touched, square, before), mask=read)
    before = tl.load(parameter + at, mask=read, other=0.0)
    value = before - size * mean / (tl.sqrt(square) * scale + epsilon)
    value = tl.where(touched, value, before)
    tl.store(parameter + at, value, mask=read)
    if half is not None:
        tl.store(half + at, within(value, -largest, largest).to(tl.float16), mask=read)


@triton.jit
@no_type_check
def _number(value, IN_MEMORY: tl.constexpr):
    """A number that the host gave, or that lies in the GPU's memory."""
    return tl.full((), 0.0, tl.float32) + (tl.load(value) if IN_MEMORY else value)
