"""Histogram losses in Triton for a GPU, float32: a warp finds a ray's loss together with its gradient."""

from collections.abc import Callable
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.ray_losses.torch_impl import FLOOR
from blocknerf.kernels.triton_ops import ray_tile, search, sum_before


def interlevel(
    fine_edges: Float[Tensor, "rays edges"],
    fine_weights: Float[Tensor, "rays bins"],
    proposal_edges: Float[Tensor, "rays proposal_edges"],
    proposal_weights: Float[Tensor, "rays proposal_bins"],
) -> Float[Tensor, ""]:
    """What `reference.interlevel` gives, in one kernel."""
    return _RayLoss.apply(proposal_weights, _launch_interlevel, fine_edges, fine_weights, proposal_edges)


def distortion(edges: Float[Tensor, "rays edges"], weights: Float[Tensor, "rays bins"]) -> Float[Tensor, ""]:
    """What `reference.distortion` gives, in one kernel."""
    return _RayLoss.apply(weights, _launch_distortion, edges)


class _RayLoss(torch.autograd.Function):
    """Mean over rays of a loss whose gradient is found together with it."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, launch: Callable[..., None], *given: Tensor) -> Tensor:
        own = weights.detach().contiguous()
        losses, slopes = own.new_empty(len(own)), torch.empty_like(own)
        if len(own):
            launch(*(tensor.contiguous() for tensor in given), own, losses, slopes)
        ctx.save_for_backward(slopes)
        ctx.given = len(given)
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * (gradient / len(slopes)), *(None,) * (1 + ctx.given)


def _launch_distortion(edges: Tensor, weights: Tensor, losses: Tensor, slopes: Tensor) -> None:
    rays, bins = weights.shape
    _distortion[(rays,)](edges, weights, losses, slopes, bins, WIDTH=ray_tile(bins)[1], num_warps=1)


def _launch_interlevel(
    fine_edges: Tensor, fine_weights: Tensor, edges: Tensor, weights: Tensor, losses: Tensor, slopes: Tensor
) -> None:
    (rays, bins), fines = weights.shape, fine_weights.shape[1]
    sums, changes = torch.empty_like(weights), torch.empty_like(fine_weights)
    tensors = (fine_edges, fine_weights, edges, weights, sums, changes, losses, slopes)
    sizes = {"FINE": ray_tile(fines)[1], "COARSE": ray_tile(bins)[1]}
    halvings = {"FINE_HALVINGS": fines.bit_length(), "HALVINGS": (bins + 1).bit_length()}
    _interlevel[(rays,)](*tensors, fines, bins, FLOOR, **sizes, **halvings, num_warps=1)


@triton.jit
@no_type_check
def _distortion(edges, weights, losses, slopes, bins, WIDTH: tl.constexpr):
    ray = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < bins
    edges += ray * (bins + 1)
    start = tl.load(edges + column, mask=inside, other=0.0)
    end = tl.load(edges + column + 1, mask=inside, other=0.0)
    weight = tl.load(weights + ray * bins + column, mask=inside, other=0.0)
    middle = 0.5 * (start + end)
    total, moment = tl.sum(weight, 0), tl.sum(weight * middle, 0)
    # The mean distance to all others: what is before counts once, and what is ahead, which is the rest.
    apart = moment - 2.0 * tl.cumsum(weight * middle, 0) + middle * (2.0 * tl.cumsum(weight, 0) - total)
    apart += weight * (end - start) * (1.0 / 3.0)
    tl.store(losses + ray, tl.sum(weight * apart, 0))
    tl.store(slopes + ray * bins + column, 2.0 * apart, mask=inside)


@triton.jit
@no_type_check
def _interlevel(
    fine_edges, fine_weights, edges, weights, sums, changes, losses, slopes, fines, bins, floor,
    FINE: tl.constexpr, COARSE: tl.constexpr, FINE_HALVINGS: tl.constexpr, HALVINGS: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    fine_edges += ray * (fines + 1)
    edges += ray * (bins + 1)
    sums += ray * bins
    changes += ray * fines
    column, fine = tl.arange(0, COARSE), tl.arange(0, FINE)
    inside, fine_inside = column < bins, fine < fines
    tl.store(sums + column, tl.cumsum(tl.load(weights + ray * bins + column, mask=inside, other=0.0), 0), mask=inside)
    tl.debug_barrier()  # what the warp stored, all its threads may read
    # The bins that overlap a fine one: from the last edge not after its start to the first not before its end.
    start = tl.load(fine_edges + fine, mask=fine_inside, other=0.0)
    end = tl.load(fine_edges + fine + 1, mask=fine_inside, other=0.0)
    from_bin = tl.maximum(search(edges, bins + 1, start, fine_inside, HALVINGS, True) - 1, 0)
    to_bin = tl.minimum(search(edges, bins + 1, end, fine_inside, HALVINGS, False), bins)
    bound = sum_before(sums, to_bin, fine_inside) - sum_before(sums, tl.minimum(from_bin, bins), fine_inside)
    weight = tl.load(fine_weights + ray * fines + fine, mask=fine_inside, other=0.0)
    short = weight - bound
    short = tl.where(short <= 0.0, 0.0, short)  # NaN stays NaN
    change = short / (weight + floor)
    tl.store(losses + ray, tl.sum(short * change, 0))
    tl.store(changes + fine, tl.cumsum(change, 0), mask=fine_inside)
    tl.debug_barrier()
    # The fine bins that a bin overlaps, from its side: those that start before its end and end after its start.
    start = tl.load(edges + column, mask=inside, other=0.0)
    end = tl.load(edges + column + 1, mask=inside, other=0.0)
    to_fine = search(fine_edges, fines, end, inside, FINE_HALVINGS, False)
    from_fine = search(fine_edges + 1, fines, start, inside, FINE_HALVINGS, True)
    slope = sum_before(changes, from_fine, inside) - sum_before(changes, to_fine, inside)
    tl.store(slopes + ray * bins + column, 2.0 * slope, mask=inside)
