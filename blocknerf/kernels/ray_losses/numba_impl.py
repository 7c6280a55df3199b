"""Numba (CPU, float32) ray losses: one pass along each ray computes its loss and gradient."""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.ray_losses.torch_impl import FLOOR
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH_ORDERED

CHUNK_PER_THREAD = 256
"""Rays per unit of work of a thread."""

_ZERO, _ONE, _TWO, _THIRD, _HALF = (np.float32(value) for value in (0.0, 1.0, 2.0, 1.0 / 3.0, 0.5))
_FLOOR = np.float32(FLOOR)


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """Numba version of `torch_impl.interlevel`."""
    return _RayLoss.apply(proposal_weights, _interlevel, fine_edges, fine_weights, proposal_edges)


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """Numba version of `torch_impl.distortion`."""
    return _RayLoss.apply(weights, _distortion, edges)


class _RayLoss(torch.autograd.Function):
    """Mean over rays of a loss that computes its gradient in the forward pass."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, kernel: Callable[..., None], *constants: Tensor) -> Tensor:
        apply_numba_threads(max_threads=1 + len(weights) // CHUNK_PER_THREAD)
        values = weights.detach().contiguous()
        losses, grad_weights = values.new_empty(len(values)), torch.empty_like(values)
        kernel(
            *(tensor.contiguous().numpy() for tensor in constants), values.numpy(), losses.numpy(), grad_weights.numpy()
        )
        ctx.save_for_backward(grad_weights)
        ctx.num_constants = len(constants)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (grad_weights,) = ctx.saved_tensors
        return grad_weights * (gradient / len(grad_weights)), *(None,) * (1 + ctx.num_constants)


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _distortion(edges, weights, losses, grad_weights):
    rays, bins = weights.shape
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            total, moment = _ZERO, _ZERO
            for index in range(bins):
                weight = weights[ray, index]
                total += weight
                moment += weight * _HALF * (edges[ray, index] + edges[ray, index + 1])
            weight_before, moment_before, loss = _ZERO, _ZERO, _ZERO
            for index in range(bins):
                weight, start, end = weights[ray, index], edges[ray, index], edges[ray, index + 1]
                mid, width = _HALF * (start + end), end - start
                weight_ahead = total - weight_before - weight
                moment_ahead = moment - moment_before - weight * mid
                mean_distance = (mid * weight_before - moment_before) + (moment_ahead - mid * weight_ahead)
                loss += weight * (mean_distance + weight * width * _THIRD)
                grad_weights[ray, index] = _TWO * (mean_distance + weight * width * _THIRD)
                weight_before += weight
                moment_before += weight * mid
            losses[ray] = loss


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _interlevel(fine_edges, fine_weights, edges, weights, losses, grad_weights):
    rays, bins = weights.shape
    num_fine = fine_weights.shape[1]
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        total = np.empty(bins + 1, np.float32)
        grad_edges = np.empty(bins + 1, np.float32)
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            total[0] = _ZERO
            for index in range(bins):
                total[index + 1] = total[index] + weights[ray, index]
                grad_edges[index] = _ZERO
            grad_edges[bins] = _ZERO
            first, last, loss = 0, 0, _ZERO
            for fine_bin in range(num_fine):
                # Overlapping bins: from the last edge not after its start to the first edge not before its end.
                while first < bins and edges[ray, first + 1] <= fine_edges[ray, fine_bin]:
                    first += 1
                while last < bins and edges[ray, last] < fine_edges[ray, fine_bin + 1]:
                    last += 1
                weight = fine_weights[ray, fine_bin]
                shortfall = weight - (total[last] - total[first])
                # Negated so that NaN stays NaN.
                if not shortfall <= _ZERO:
                    ratio = shortfall / (weight + _FLOOR)
                    loss += shortfall * ratio
                    grad_edges[first] -= _TWO * ratio
                    grad_edges[last] += _TWO * ratio
            losses[ray] = loss
            grad = _ZERO
            for index in range(bins):
                grad += grad_edges[index]
                grad_weights[ray, index] = grad
