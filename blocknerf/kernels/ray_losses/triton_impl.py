"""Triton (GPU, float32) ray losses: one warp per ray computes its loss and gradient."""

from collections.abc import Callable
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.ray_losses.torch_impl import FLOOR
from blocknerf.kernels.triton_ops import exclusive_sum, ray_tile, searchsorted


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """Triton version of `torch_impl.interlevel`, one kernel."""
    return _RayLoss.apply(proposal_weights, _launch_interlevel, fine_edges, fine_weights, proposal_edges)


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """Triton version of `torch_impl.distortion`, one kernel."""
    return _RayLoss.apply(weights, _launch_distortion, edges)


class _RayLoss(torch.autograd.Function):
    """Mean over rays of a loss that computes its gradient in the forward pass."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, launch: Callable[..., None], *constants: Tensor) -> Tensor:
        values = weights.detach().contiguous()
        losses, grad_weights = values.new_empty(len(values)), torch.empty_like(values)
        if len(values):
            launch(*(tensor.contiguous() for tensor in constants), values, losses, grad_weights)
        ctx.save_for_backward(grad_weights)
        ctx.num_constants = len(constants)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (grad_weights,) = ctx.saved_tensors
        return grad_weights * (gradient / len(grad_weights)), *(None,) * (1 + ctx.num_constants)


def _launch_distortion(edges: Tensor, weights: Tensor, losses: Tensor, grad_weights: Tensor) -> None:
    rays, bins = weights.shape
    _distortion[(rays,)](edges, weights, losses, grad_weights, bins, WIDTH=ray_tile(bins)[1], num_warps=1)


def _launch_interlevel(
    fine_edges: Tensor, fine_weights: Tensor, edges: Tensor, weights: Tensor, losses: Tensor, grad_weights: Tensor
) -> None:
    (rays, bins), num_fine = weights.shape, fine_weights.shape[1]
    sums, ratio_sums = torch.empty_like(weights), torch.empty_like(fine_weights)
    tensors = (fine_edges, fine_weights, edges, weights, sums, ratio_sums, losses, grad_weights)
    sizes = {"FINE": ray_tile(num_fine)[1], "COARSE": ray_tile(bins)[1]}
    halvings = {"FINE_HALVINGS": num_fine.bit_length(), "HALVINGS": (bins + 1).bit_length()}
    _interlevel[(rays,)](*tensors, num_fine, bins, FLOOR, **sizes, **halvings, num_warps=1)


@triton.jit
@no_type_check
def _distortion(edges, weights, losses, grad_weights, bins, WIDTH: tl.constexpr):
    ray = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    mask = column < bins
    edges += ray * (bins + 1)
    start = tl.load(edges + column, mask=mask, other=0.0)
    end = tl.load(edges + column + 1, mask=mask, other=0.0)
    weight = tl.load(weights + ray * bins + column, mask=mask, other=0.0)
    mid = 0.5 * (start + end)
    total, moment = tl.sum(weight, 0), tl.sum(weight * mid, 0)
    # Mean distance to all other samples: those before, and those after, which are the rest.
    mean_distance = moment - 2.0 * tl.cumsum(weight * mid, 0) + mid * (2.0 * tl.cumsum(weight, 0) - total)
    mean_distance += weight * (end - start) * (1.0 / 3.0)
    tl.store(losses + ray, tl.sum(weight * mean_distance, 0))
    tl.store(grad_weights + ray * bins + column, 2.0 * mean_distance, mask=mask)


@triton.jit
@no_type_check
def _interlevel(
    fine_edges, fine_weights, edges, weights, sums, ratio_sums, losses, grad_weights, num_fine, bins, floor,
    FINE: tl.constexpr, COARSE: tl.constexpr, FINE_HALVINGS: tl.constexpr, HALVINGS: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    fine_edges += ray * (num_fine + 1)
    edges += ray * (bins + 1)
    sums += ray * bins
    ratio_sums += ray * num_fine
    column, fine = tl.arange(0, COARSE), tl.arange(0, FINE)
    mask, fine_mask = column < bins, fine < num_fine
    tl.store(sums + column, tl.cumsum(tl.load(weights + ray * bins + column, mask=mask, other=0.0), 0), mask=mask)
    tl.debug_barrier()  # make stored sums visible to all threads
    # Bins that overlap a fine bin: from the last edge not after its start to the first edge not before its end.
    start = tl.load(fine_edges + fine, mask=fine_mask, other=0.0)
    end = tl.load(fine_edges + fine + 1, mask=fine_mask, other=0.0)
    from_bin = tl.maximum(searchsorted(edges, bins + 1, start, fine_mask, HALVINGS, True) - 1, 0)
    to_bin = tl.minimum(searchsorted(edges, bins + 1, end, fine_mask, HALVINGS, False), bins)
    bound = exclusive_sum(sums, to_bin, fine_mask) - exclusive_sum(sums, tl.minimum(from_bin, bins), fine_mask)
    weight = tl.load(fine_weights + ray * num_fine + fine, mask=fine_mask, other=0.0)
    shortfall = weight - bound
    shortfall = tl.where(shortfall <= 0.0, 0.0, shortfall)  # NaN stays NaN
    ratio = shortfall / (weight + floor)
    tl.store(losses + ray, tl.sum(shortfall * ratio, 0))
    tl.store(ratio_sums + fine, tl.cumsum(ratio, 0), mask=fine_mask)
    tl.debug_barrier()
    # Fine bins that overlap a bin: those that start before its end and end after its start.
    start = tl.load(edges + column, mask=mask, other=0.0)
    end = tl.load(edges + column + 1, mask=mask, other=0.0)
    to_fine = searchsorted(fine_edges, num_fine, end, mask, FINE_HALVINGS, False)
    from_fine = searchsorted(fine_edges + 1, num_fine, start, mask, FINE_HALVINGS, True)
    grad = exclusive_sum(ratio_sums, from_fine, mask) - exclusive_sum(ratio_sums, to_fine, mask)
    tl.store(grad_weights + ray * bins + column, 2.0 * grad, mask=mask)
