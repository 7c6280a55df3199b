"""Activations with custom backward passes."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT


def trunc_exp_density(logits: Float[Tensor, "*batch"], half_extent: float) -> Float[Tensor, "*batch"]:
    """Return density per world unit from its logit."""
    # The unit is one over the half extent, so that fields of all block sizes start alike.
    return trunc_exp(logits - DENSITY_SHIFT) / half_extent


class _TruncExp(torch.autograd.Function):
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
    """Return exp, limited to e^DENSITY_LIMIT, with a gradient that does not vanish above the limit."""
    return _TruncExp.apply(logits)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


def scale_gradient(values: Tensor, factor: Tensor) -> Tensor:
    """Return the same values; their gradient is multiplied by `factor`."""
    return _ScaleGradient.apply(values, factor)
