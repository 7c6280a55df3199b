"""Adam step in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

import math

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.devices import HALF_MAX


@torch.no_grad()
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
    """Update the entries with a nonzero gradient in place."""
    has_grad = gradient != 0
    new_avg = betas[0] * exp_avg + (1 - betas[0]) * gradient
    new_avg_sq = betas[1] * exp_avg_sq + (1 - betas[1]) * gradient * gradient
    denominator = new_avg_sq.sqrt() / _correction(betas[1], step) ** 0.5 + epsilon
    updated = parameter - lr / _correction(betas[0], step) * new_avg / denominator
    for target, value in ((parameter, updated), (exp_avg, new_avg), (exp_avg_sq, new_avg_sq)):
        target.copy_(torch.where(has_grad, value, target))
    if half_copy is not None:
        half_copy.copy_(parameter.clamp(-HALF_MAX, HALF_MAX))


def _correction(beta: float, step: int | Tensor) -> float | Tensor:
    """Bias correction 1 - beta^step of a moment that started at zero."""
    if isinstance(step, Tensor):
        # In single precision the difference itself would lose digits in the first steps.
        return -torch.expm1(step * math.log(max(beta, 1e-30)))
    return 1 - beta**step
