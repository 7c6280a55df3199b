"""Quadrature in Numba for the processor, float32: one pass along each ray where PyTorch makes a dozen over all.

What a sample stops stays with PyTorch: its `expm1` is exact where density is thin, and made of vector instructions.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH

SPAN = 256
"""Rays that a thread takes at once."""

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """What `reference.weights_from_density` gives, by compiled loops."""
    return _Weights.apply(density, distances)


def composite(
    weights: Float[Tensor, "rays samples"], colors: Float[Tensor, "rays samples 3"], sky: Float[Tensor, "rays 3"]
) -> Float[Tensor, "rays 3"]:
    """What `reference.composite` gives, by compiled loops."""
    return _Composite.apply(weights.contiguous(), colors.contiguous(), sky.contiguous())


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        apply_numba_threads(most=1 + len(density) // SPAN)
        widths = distances[:, 1:] - distances[:, :-1]
        stopped = torch.mul(density, widths).neg_().expm1_().neg_()
        weights, transmittance = torch.empty_like(stopped), torch.empty_like(stopped)
        _weigh(stopped.numpy(), weights.numpy(), transmittance.numpy())
        ctx.save_for_backward(widths, stopped, weights, transmittance)
        ctx.mark_non_differentiable(transmittance)
        ctx.set_materialize_grads(False)
        return weights, transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None]:
        if gradients is None:
            return None, None
        arrays = [tensor.numpy() for tensor in (*ctx.saved_tensors, gradients.contiguous())]
        apply_numba_threads(most=1 + len(gradients) // SPAN)
        slopes = torch.empty_like(gradients, memory_format=torch.contiguous_format)
        _weigh_back(*arrays, slopes.numpy())
        return slopes, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, colors: Tensor, sky: Tensor) -> Tensor:
        apply_numba_threads(most=1 + len(weights) // SPAN)
        out = torch.empty_like(sky)
        _composite(*(tensor.detach().numpy() for tensor in (weights, colors, sky)), out.numpy())
        ctx.save_for_backward(weights, colors, sky)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, ...]:
        tensors = [tensor.detach() for tensor in ctx.saved_tensors]
        apply_numba_threads(most=1 + len(gradients) // SPAN)
        slopes = tuple(torch.empty_like(tensor) for tensor in tensors)
        arrays = [tensor.numpy() for tensor in (*tensors, gradients.contiguous(), *slopes)]
        _composite_back(*arrays)
        return slopes


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _weigh(stopped, weights, transmittance):
    rays, samples = stopped.shape
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            passed = _ONE
            for sample in range(samples):
                transmittance[ray, sample] = passed
                weights[ray, sample] = passed * stopped[ray, sample]
                passed *= _ONE - stopped[ray, sample]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _weigh_back(widths, stopped, weights, transmittance, gradients, slopes):
    rays, samples = stopped.shape
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            behind = _ZERO  # what the samples behind would lose
            for sample in range(samples - 1, -1, -1):
                gradient = gradients[ray, sample]
                passed = transmittance[ray, sample] * (_ONE - stopped[ray, sample])
                slopes[ray, sample] = widths[ray, sample] * (gradient * passed - behind)
                behind += gradient * weights[ray, sample]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _composite(weights, colors, sky, out):
    rays, samples = weights.shape
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            red, green, blue, opacity = _ZERO, _ZERO, _ZERO, _ZERO
            for sample in range(samples):
                weight = weights[ray, sample]
                red += weight * colors[ray, sample, 0]
                green += weight * colors[ray, sample, 1]
                blue += weight * colors[ray, sample, 2]
                opacity += weight
            passed = _ONE - opacity
            out[ray, 0] = red + passed * sky[ray, 0]
            out[ray, 1] = green + passed * sky[ray, 1]
            out[ray, 2] = blue + passed * sky[ray, 2]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _composite_back(weights, colors, sky, gradients, to_weights, to_colors, to_sky):
    rays, samples = weights.shape
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            red, green, blue = gradients[ray, 0], gradients[ray, 1], gradients[ray, 2]
            behind = red * sky[ray, 0] + green * sky[ray, 1] + blue * sky[ray, 2]
            opacity = _ZERO
            for sample in range(samples):
                weight = weights[ray, sample]
                seen = red * colors[ray, sample, 0] + green * colors[ray, sample, 1] + blue * colors[ray, sample, 2]
                to_weights[ray, sample] = seen - behind
                to_colors[ray, sample, 0] = weight * red
                to_colors[ray, sample, 1] = weight * green
                to_colors[ray, sample, 2] = weight * blue
                opacity += weight
            passed = _ONE - opacity
            to_sky[ray, 0] = passed * red
            to_sky[ray, 1] = passed * green
            to_sky[ray, 2] = passed * blue
