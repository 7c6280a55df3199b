"""Resampling in Triton for a GPU, float32: weights summed up along rays, then each share looked for among the sums."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import ray_tile, search, sum_before, within

RAYS = 4
"""Of a program, one a warp: a multiprocessor holds too few programs of one warp each to be busy."""


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """What `reference.sample_pdf` gives, in one kernel."""
    rays, coarse = weights.shape
    out = edges.new_empty(rays, bins + 1)
    if rays:
        tensors = [tensor.contiguous() for tensor in (edges, weights, jitter)]
        widths = {"COARSE": ray_tile(coarse)[1], "FINE": ray_tile(bins + 1)[1], "HALVINGS": coarse.bit_length()}
        cumulative = torch.empty_like(tensors[1])
        grid = (triton.cdiv(rays, RAYS),)
        _resample[grid](*tensors, cumulative, out, padding / coarse, rays, coarse, bins + 1, RAYS=RAYS, **widths)
    return out


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _resample(
    edges, weights, jitter, cumulative, out, padding, rays, bins, finer,
    RAYS: tl.constexpr, COARSE: tl.constexpr, FINE: tl.constexpr, HALVINGS: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)[:, None]
    there = ray < rays
    edges += ray * (bins + 1)
    cumulative += ray * bins
    column = tl.arange(0, COARSE)[None, :]
    inside = there & (column < bins)
    weight = tl.where(inside, tl.load(weights + ray * bins + column, mask=inside, other=0.0) + padding, 0.0)
    total = tl.where(there, tl.sum(weight, 1)[:, None], 1.0)
    tl.store(cumulative + column, tl.cumsum(weight, 1) / total, mask=inside)
    tl.debug_barrier()  # what a thread stored, all may read
    column = tl.arange(0, FINE)[None, :]
    inside = there & (column < finer)
    share = (column.to(tl.float32) + tl.load(jitter + ray, mask=there, other=0.0)) / finer
    index = tl.minimum(search(cumulative, bins, share, inside, HALVINGS, True), bins - 1)
    low = sum_before(cumulative, index, inside)
    width = tl.load(cumulative + index, mask=inside, other=1.0) - low
    part = within((share - low) / tl.where(width < 1e-9, 1e-9, width), 0.0, 1.0)
    start = tl.load(edges + index, mask=inside, other=0.0)
    end = tl.load(edges + index + 1, mask=inside, other=0.0)
    tl.store(out + ray * finer + column, start + part * (end - start), mask=inside)
