"""Functions whose way back is not the derivative of their way there."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT


def trunc_exp_density(logits: Float[Tensor, "*batch"], half_extent: float) -> Float[Tensor, "*batch"]:
    """Density per world unit from its logit."""
    # Its unit is one over the half extent, so that fields of blocks of every size begin alike.
    return trunc_exp(logits - DENSITY_SHIFT) / half_extent


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        value = torch.exp(logits.clamp(max=DENSITY_LIMIT))
        ctx.save_for_backward(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        return gradient * value


def trunc_exp(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """exp, bounded at e^DENSITY_LIMIT in value, with a gradient that never vanishes above the bound."""
    return _TruncatedExp.apply(logits)


class _FadeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def scale_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """The same values, whose gradient is multiplied by `factor` on the way back."""
    return _FadeGradient.apply(values, factor)
