"""Triton (GPU, float32) Adam step: one pass over memory that skips groups without gradients."""

import math
from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.devices import HALF_MAX
from blocknerf.kernels.triton_ops import clamp_nan, one_minus_exp_neg

GROUPS = 256
"""Groups of four entries per program. One nonzero gradient makes its whole group be read, as one 16-byte access."""


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
    """Triton version of `torch_impl.adam_step`, one kernel. Skipped entries are not copied to `half_copy` either."""
    count = parameter.numel()
    if not count:
        return
    scalars = [scalar if isinstance(scalar, Tensor) else float(scalar) for scalar in (step, lr)]
    in_memory = [isinstance(scalar, Tensor) for scalar in scalars]
    # 1 - beta and logarithms are computed in double precision: single precision would lose digits.
    one_minus_betas = [1 - beta for beta in betas]
    settings = (*betas, *one_minus_betas, *(math.log(max(beta, 1e-30)) for beta in betas), epsilon, HALF_MAX)
    tensors = (parameter.detach(), gradient, exp_avg, exp_avg_sq, half_copy)
    grid = (triton.cdiv(count, 4 * GROUPS),)
    _step[grid](*tensors, *scalars, *map(float, settings), count, *in_memory, GROUPS)


@triton.jit
@no_type_check
def _step(
    parameter, gradient, exp_avg, exp_avg_sq, half_copy, step, lr,
    beta1, beta2, rest1, rest2, log_beta1, log_beta2, epsilon, half_max, count,
    STEP_IN_MEMORY: tl.constexpr, RATE_IN_MEMORY: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    step, lr = _load_scalar(step, STEP_IN_MEMORY), _load_scalar(lr, RATE_IN_MEMORY)
    step_size = lr / one_minus_exp_neg(-step * log_beta1)
    inv_sqrt_correction = 1.0 / tl.sqrt(one_minus_exp_neg(-step * log_beta2))
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    offset = group[:, None] * 4 + tl.arange(0, 4)[None, :]
    mask = offset < count
    grad = tl.load(gradient + offset, mask=mask, other=0.0)
    has_grad = grad != 0.0
    # The mask must be the same for a whole group, or accesses would be split entry by entry.
    group_mask = mask & (tl.max(has_grad.to(tl.int32), 1) > 0)[:, None]
    old = tl.load(exp_avg + offset, mask=group_mask, other=0.0)
    new_avg = beta1 * old + rest1 * grad
    tl.store(exp_avg + offset, tl.where(has_grad, new_avg, old), mask=group_mask)
    old = tl.load(exp_avg_sq + offset, mask=group_mask, other=0.0)
    new_avg_sq = beta2 * old + rest2 * grad * grad
    tl.store(exp_avg_sq + offset, tl.where(has_grad, new_avg_sq, old), mask=group_mask)
    old = tl.load(parameter + offset, mask=group_mask, other=0.0)
    value = old - step_size * new_avg / (tl.sqrt(new_avg_sq) * inv_sqrt_correction + epsilon)
    value = tl.where(has_grad, value, old)
    tl.store(parameter + offset, value, mask=group_mask)
    if half_copy is not None:
        tl.store(half_copy + offset, clamp_nan(value, -half_max, half_max).to(tl.float16), mask=group_mask)


@triton.jit
@no_type_check
def _load_scalar(value, IN_MEMORY: tl.constexpr):
    """Return a scalar passed by the host, or loaded from GPU memory."""
    return tl.full((), 0.0, tl.float32) + (tl.load(value) if IN_MEMORY else value)
