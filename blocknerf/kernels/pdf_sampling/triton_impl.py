"""Triton (GPU, float32) inverse transform sampling: cumulative sums along rays, then a binary search per quantile."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import clamp_nan, exclusive_sum, ray_tile, searchsorted

RAYS = 4
"""Rays per program, one per warp: a multiprocessor holds too few one-warp programs to be busy."""


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """Triton version of `torch_impl.sample_pdf`, one kernel."""
    rays, coarse = weights.shape
    out = edges.new_empty(rays, bins + 1)
    if rays:
        tensors = [tensor.contiguous() for tensor in (edges, weights, jitter)]
        widths = {"COARSE": ray_tile(coarse)[1], "FINE": ray_tile(bins + 1)[1], "HALVINGS": coarse.bit_length()}
        cumulative = torch.empty_like(tensors[1])
        grid = (triton.cdiv(rays, RAYS),)
        _sample_pdf[grid](*tensors, cumulative, out, padding / coarse, rays, coarse, bins + 1, RAYS=RAYS, **widths)
    return out


@triton.jit(do_not_specialize=["rays"])
@no_type_check
def _sample_pdf(
    edges, weights, jitter, cumulative, out, padding, rays, bins, num_out,
    RAYS: tl.constexpr, COARSE: tl.constexpr, FINE: tl.constexpr, HALVINGS: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)[:, None]
    ray_mask = ray < rays
    edges += ray * (bins + 1)
    cumulative += ray * bins
    column = tl.arange(0, COARSE)[None, :]
    mask = ray_mask & (column < bins)
    weight = tl.where(mask, tl.load(weights + ray * bins + column, mask=mask, other=0.0) + padding, 0.0)
    total = tl.where(ray_mask, tl.sum(weight, 1)[:, None], 1.0)
    tl.store(cumulative + column, tl.cumsum(weight, 1) / total, mask=mask)
    tl.debug_barrier()  # make stored sums visible to all threads
    column = tl.arange(0, FINE)[None, :]
    mask = ray_mask & (column < num_out)
    u = (column.to(tl.float32) + tl.load(jitter + ray, mask=ray_mask, other=0.0)) / num_out
    index = tl.minimum(searchsorted(cumulative, bins, u, mask, HALVINGS, True), bins - 1)
    low = exclusive_sum(cumulative, index, mask)
    width = tl.load(cumulative + index, mask=mask, other=1.0) - low
    fraction = clamp_nan((u - low) / tl.where(width < 1e-9, 1e-9, width), 0.0, 1.0)
    start = tl.load(edges + index, mask=mask, other=0.0)
    end = tl.load(edges + index + 1, mask=mask, other=0.0)
    tl.store(out + ray * num_out + column, start + fraction * (end - start), mask=mask)
