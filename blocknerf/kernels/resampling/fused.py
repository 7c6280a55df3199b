"""Resampling in Triton for a GPU, float32: a warp sums up a ray's weights, then looks for each share among the sums."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.tiles import ray_tile, search, sum_before, within


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """What `reference.resample` gives, in one kernel."""
    rays, coarse = weights.shape
    out = edges.new_empty(rays, bins + 1)
    if rays:
        tensors = [tensor.contiguous() for tensor in (edges, weights, jitter)]
        widths = {"COARSE": ray_tile(coarse)[1], "FINE": ray_tile(bins + 1)[1], "HALVINGS": coarse.bit_length()}
        cumulative = torch.empty_like(tensors[1])
        _resample[(rays,)](*tensors, cumulative, out, padding / coarse, coarse, bins + 1, **widths, num_warps=1)
    return out


@triton.jit
@no_type_check
def _resample(
    edges, weights, jitter, cumulative, out, padding, bins, finer,
    COARSE: tl.constexpr, FINE: tl.constexpr, HALVINGS: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64)
    edges += ray * (bins + 1)
    cumulative += ray * bins
    column = tl.arange(0, COARSE)
    inside = column < bins
    weight = tl.where(inside, tl.load(weights + ray * bins + column, mask=inside, other=0.0) + padding, 0.0)
    tl.store(cumulative + column, tl.cumsum(weight, 0) / tl.sum(weight, 0), mask=inside)
    tl.debug_barrier()  # what the warp stored, all its threads may read
    column = tl.arange(0, FINE)
    inside = column < finer
    share = (column.to(tl.float32) + tl.load(jitter + ray)) / finer
    index = tl.minimum(search(cumulative, bins, share, inside, HALVINGS, True), bins - 1)
    low = sum_before(cumulative, index, inside)
    width = tl.load(cumulative + index, mask=inside, other=1.0) - low
    part = within((share - low) / tl.where(width < 1e-9, 1e-9, width), 0.0, 1.0)
    start = tl.load(edges + index, mask=inside, other=0.0)
    end = tl.load(edges + index + 1, mask=inside, other=0.0)
    tl.store(out + ray * finer + column, start + part * (end - start), mask=inside)
