"""Histogram losses in Numba for the processor, float32: one walk along each ray gives its loss and its gradient."""

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

SPAN = 256
"""Rays that a thread takes at once."""

_ZERO, _ONE, _TWO, _THIRD, _HALF = (np.float32(value) for value in (0.0, 1.0, 2.0, 1.0 / 3.0, 0.5))
_FLOOR = np.float32(FLOOR)


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """What `reference.interlevel` gives, by compiled loops."""
    return _RayLoss.apply(proposal_weights, _interlevel, fine_edges, fine_weights, proposal_edges)


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """What `reference.distortion` gives, by compiled loops."""
    return _RayLoss.apply(weights, _distortion, edges)


class _RayLoss(torch.autograd.Function):
    """Mean over rays of a loss whose gradient is found together with it."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, kernel: Callable[..., None], *given: Tensor) -> Tensor:
        apply_numba_threads(most=1 + len(weights) // SPAN)
        own = weights.detach().contiguous()
        losses, slopes = own.new_empty(len(own)), torch.empty_like(own)
        kernel(*(tensor.contiguous().numpy() for tensor in given), own.numpy(), losses.numpy(), slopes.numpy())
        ctx.save_for_backward(slopes)
        ctx.given = len(given)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * (gradient / len(slopes)), *(None,) * (1 + ctx.given)


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _distortion(edges, weights, losses, slopes):
    rays, bins = weights.shape
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            total, moment = _ZERO, _ZERO
            for index in range(bins):
                weight = weights[ray, index]
                total += weight
                moment += weight * _HALF * (edges[ray, index] + edges[ray, index + 1])
            before, moment_before, loss = _ZERO, _ZERO, _ZERO
            for index in range(bins):
                weight, start, end = weights[ray, index], edges[ray, index], edges[ray, index + 1]
                middle, width = _HALF * (start + end), end - start
                ahead = total - before - weight
                moment_ahead = moment - moment_before - weight * middle
                apart = (middle * before - moment_before) + (moment_ahead - middle * ahead)
                loss += weight * (apart + weight * width * _THIRD)
                slopes[ray, index] = _TWO * (apart + weight * width * _THIRD)
                before += weight
                moment_before += weight * middle
            losses[ray] = loss


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _interlevel(fine_edges, fine_weights, edges, weights, losses, slopes):
    rays, bins = weights.shape
    fines = fine_weights.shape[1]
    for span in prange((rays + SPAN - 1) // SPAN):
        total = np.empty(bins + 1, np.float32)
        change = np.empty(bins + 1, np.float32)
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            total[0] = _ZERO
            for index in range(bins):
                total[index + 1] = total[index] + weights[ray, index]
                change[index] = _ZERO
            change[bins] = _ZERO
            first, last, loss = 0, 0, _ZERO
            for fine in range(fines):
                # The bins that overlap it: from the last edge not after its start to the first not before its end.
                while first < bins and edges[ray, first + 1] <= fine_edges[ray, fine]:
                    first += 1
                while last < bins and edges[ray, last] < fine_edges[ray, fine + 1]:
                    last += 1
                weight = fine_weights[ray, fine]
                short = weight - (total[last] - total[first])
                # Written so that NaN stays NaN.
                if not short <= _ZERO:
                    slope = short / (weight + _FLOOR)
                    loss += short * slope
                    change[first] -= _TWO * slope
                    change[last] += _TWO * slope
            losses[ray] = loss
            slope = _ZERO
            for index in range(bins):
                slope += change[index]
                slopes[ray, index] = slope
