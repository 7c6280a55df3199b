"""The Adam step in plain PyTorch: any device, any floating type; the definition the other backends are held to."""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def adam_step(
    parameter: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    first: Float[Tensor, "*shape"],
    second: Float[Tensor, "*shape"],
    step: int,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
    zero_gradient: bool,
) -> None:
    """Update the entries whose gradient is not zero, in place."""
    touched = gradient != 0
    mean = betas[0] * first + (1 - betas[0]) * gradient
    square = betas[1] * second + (1 - betas[1]) * gradient * gradient
    size = square.sqrt() / (1 - betas[1] ** step) ** 0.5 + epsilon
    updated = parameter * (1 - rate * weight_decay) - rate / (1 - betas[0] ** step) * mean / size
    for target, value in ((parameter, updated), (first, mean), (second, square)):
        target.copy_(torch.where(touched, value, target))
    if zero_gradient:
        gradient.zero_()
