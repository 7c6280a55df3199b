"""The Adam step in plain PyTorch: any device, any floating type; the definition the other backends are held to."""

import math

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from blocknerf.kernels.precision import HALF_MAX


@torch.no_grad()
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
    """Update the entries whose gradient is not zero, in place."""
    touched = gradient != 0
    mean = betas[0] * first + (1 - betas[0]) * gradient
    square = betas[1] * second + (1 - betas[1]) * gradient * gradient
    size = square.sqrt() / _correction(betas[1], step) ** 0.5 + epsilon
    updated = parameter - rate / _correction(betas[0], step) * mean / size
    for target, value in ((parameter, updated), (first, mean), (second, square)):
        target.copy_(torch.where(touched, value, target))
    if half is not None:
        half.copy_(parameter.clamp(-HALF_MAX, HALF_MAX))


def _correction(beta: float, step: int | Tensor) -> float | Tensor:
    """1 - beta^step, by which a moment that began as zero is too small."""
    if isinstance(step, Tensor):
        # In single precision the difference itself would lose digits in the first steps.
        return -torch.expm1(step * math.log(max(beta, 1e-30)))
    return 1 - beta**step
