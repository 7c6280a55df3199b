"""Numba (CPU, float32) volume rendering: one pass along each ray where PyTorch makes a dozen over all rays.

PyTorch computes the alpha of samples: its `expm1` is accurate for low density, and vectorized.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH

CHUNK_PER_THREAD = 256
"""Rays per unit of work of a thread."""

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


def weights_from_density(
    density: Float[Tensor, "rays samples"], distances: Float[Tensor, "rays edges"]
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples"]]:
    """Numba version of `torch_impl.weights_from_density`."""
    return _Weights.apply(density, distances)


def composite(
    weights: Float[Tensor, "rays samples"], colors: Float[Tensor, "rays samples 3"], sky: Float[Tensor, "rays 3"]
) -> Float[Tensor, "rays 3"]:
    """Numba version of `torch_impl.composite`."""
    return _Composite.apply(weights.contiguous(), colors.contiguous(), sky.contiguous())


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        apply_numba_threads(max_threads=1 + len(density) // CHUNK_PER_THREAD)
        widths = distances[:, 1:] - distances[:, :-1]
        alpha = torch.mul(density, widths).neg_().expm1_().neg_()
        weights, transmittance = torch.empty_like(alpha), torch.empty_like(alpha)
        _weights_forward(alpha.numpy(), weights.numpy(), transmittance.numpy())
        ctx.save_for_backward(widths, alpha, weights, transmittance)
        ctx.mark_non_differentiable(transmittance)
        ctx.set_materialize_grads(False)
        return weights, transmittance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, None]:
        if gradients is None:
            return None, None
        arrays = [tensor.numpy() for tensor in (*ctx.saved_tensors, gradients.contiguous())]
        apply_numba_threads(max_threads=1 + len(gradients) // CHUNK_PER_THREAD)
        grad_density = torch.empty_like(gradients, memory_format=torch.contiguous_format)
        _weights_backward(*arrays, grad_density.numpy())
        return grad_density, None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, colors: Tensor, sky: Tensor) -> Tensor:
        apply_numba_threads(max_threads=1 + len(weights) // CHUNK_PER_THREAD)
        out = torch.empty_like(sky)
        _composite_forward(*(tensor.detach().numpy() for tensor in (weights, colors, sky)), out.numpy())
        ctx.save_for_backward(weights, colors, sky)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, ...]:
        tensors = [tensor.detach() for tensor in ctx.saved_tensors]
        apply_numba_threads(max_threads=1 + len(gradients) // CHUNK_PER_THREAD)
        grads = tuple(torch.empty_like(tensor) for tensor in tensors)
        arrays = [tensor.numpy() for tensor in (*tensors, gradients.contiguous(), *grads)]
        _composite_backward(*arrays)
        return grads


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _weights_forward(alpha, weights, transmittance):
    rays, samples = alpha.shape
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            transmitted = _ONE
            for sample in range(samples):
                transmittance[ray, sample] = transmitted
                weights[ray, sample] = transmitted * alpha[ray, sample]
                transmitted *= _ONE - alpha[ray, sample]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _weights_backward(widths, alpha, weights, transmittance, gradients, grad_density):
    rays, samples = alpha.shape
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            behind = _ZERO  # weight gradient of the samples behind
            for sample in range(samples - 1, -1, -1):
                gradient = gradients[ray, sample]
                transmitted = transmittance[ray, sample] * (_ONE - alpha[ray, sample])
                grad_density[ray, sample] = widths[ray, sample] * (gradient * transmitted - behind)
                behind += gradient * weights[ray, sample]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _composite_forward(weights, colors, sky, out):
    rays, samples = weights.shape
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            red, green, blue, opacity = _ZERO, _ZERO, _ZERO, _ZERO
            for sample in range(samples):
                weight = weights[ray, sample]
                red += weight * colors[ray, sample, 0]
                green += weight * colors[ray, sample, 1]
                blue += weight * colors[ray, sample, 2]
                opacity += weight
            transmitted = _ONE - opacity
            out[ray, 0] = red + transmitted * sky[ray, 0]
            out[ray, 1] = green + transmitted * sky[ray, 1]
            out[ray, 2] = blue + transmitted * sky[ray, 2]


@njit(parallel=True, fastmath=FASTMATH, error_model="numpy", cache=True)
@no_type_check
def _composite_backward(weights, colors, sky, gradients, grad_weights, grad_colors, grad_sky):
    rays, samples = weights.shape
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            red, green, blue = gradients[ray, 0], gradients[ray, 1], gradients[ray, 2]
            behind = red * sky[ray, 0] + green * sky[ray, 1] + blue * sky[ray, 2]
            opacity = _ZERO
            for sample in range(samples):
                weight = weights[ray, sample]
                sample_grad = (
                    red * colors[ray, sample, 0] + green * colors[ray, sample, 1] + blue * colors[ray, sample, 2]
                )
                grad_weights[ray, sample] = sample_grad - behind
                grad_colors[ray, sample, 0] = weight * red
                grad_colors[ray, sample, 1] = weight * green
                grad_colors[ray, sample, 2] = weight * blue
                opacity += weight
            transmitted = _ONE - opacity
            grad_sky[ray, 0] = transmitted * red
            grad_sky[ray, 1] = transmitted * green
            grad_sky[ray, 2] = transmitted * blue
