"""Forward pass from points to network outputs, or density and color, in one Triton kernel."""

from typing import no_type_check

import triton
import triton.language as tl

from blocknerf.kernels.hash_grid.triton_cells import load_points
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.kernels.radiance.triton_tiles import (
    activate,
    encode_tile,
    extract_column,
    load_bias,
    load_per_ray,
    load_tile,
    load_transposed,
    row_mask,
    to_half_saturating,
)

_SHIFT, _LIMIT = tl.constexpr(DENSITY_SHIFT), tl.constexpr(DENSITY_LIMIT)


@triton.jit
@no_type_check
def trunc_exp_density(logit, scale):
    """Return limited density from its logit; NaN stays NaN."""
    logit = logit - _SHIFT
    return tl.exp(tl.where(logit > _LIMIT, _LIMIT, logit)) * scale


@triton.jit
@no_type_check
def forward(
    points, footprints, gains, scales, levels, words, planes, half_planes, w1, b1, w2, b2,
    ray_bias, c1, d1, c2, d2, c3, d3, out, features, color, count, samples, scale,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr, HIDDEN: tl.constexpr, OUTPUTS: tl.constexpr,
    PADDED_OUT: tl.constexpr, PADDED_HIDDEN: tl.constexpr, COLOR_HIDDEN: tl.constexpr, FOOTPRINTS: tl.constexpr,
    GAINS: tl.constexpr, RAY_BIAS: tl.constexpr, COLOR: tl.constexpr, KEEP: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    """Compute outputs of the hash-grid MLP, or with COLOR density and color.

    PADDED_IN, PADDED_OUT, PADDED_HIDDEN are padded widths. With KEEP, encoded features stay in `planes`, else `planes`
    is workspace of each program.
    """
    first = load_transposed(w1, HIDDEN, LEVELS * FEATURES, PADDED_HIDDEN, PADDED_IN)
    second = load_transposed(w2, OUTPUTS, HIDDEN, PADDED_OUT, PADDED_HIDDEN)
    bias, bias2 = load_bias(b1, HIDDEN, PADDED_HIDDEN), load_bias(b2, OUTPUTS, PADDED_OUT)
    if COLOR:
        third = load_transposed(c1, COLOR_HIDDEN, OUTPUTS, COLOR_HIDDEN, PADDED_OUT)
        fourth = load_transposed(c2, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN, COLOR_HIDDEN)
        last, bias3 = load_transposed(c3, 3, COLOR_HIDDEN, 16, COLOR_HIDDEN), load_bias(d1, COLOR_HIDDEN, COLOR_HIDDEN)
        bias4, bias5 = load_bias(d2, COLOR_HIDDEN, COLOR_HIDDEN), load_bias(d3, 3, 16)
    stride = count if KEEP else tl.num_programs(0) * BLOCK_SIZE
    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK_SIZE), tl.num_programs(0)):
        lane = tl.arange(0, BLOCK_SIZE)
        sample = tile * BLOCK_SIZE + lane
        mask = sample < count
        index = sample if KEEP else tl.program_id(0) * BLOCK_SIZE + lane
        x, y, z, std = load_points(points, footprints, sample, mask, FOOTPRINTS)
        encode_tile(x, y, z, std, gains, scales, levels, words, planes, index, stride, mask, LEVELS, FEATURES, GAINS)
        tl.debug_barrier()
        inputs = load_tile(half_planes, index, stride, mask, LEVELS, FEATURES, PADDED_IN)
        sums = tl.dot(inputs, first) + bias
        if RAY_BIAS and not COLOR:
            sums += load_per_ray(ray_bias, sample, samples, mask, HIDDEN, PADDED_HIDDEN)
        outputs = tl.dot(activate(sums), second) + bias2
        if COLOR:
            tl.store(out + sample, trunc_exp_density(extract_column(outputs, 0, PADDED_OUT), scale), mask=mask)
            geo_features = to_half_saturating(outputs)
            if KEEP:
                column = tl.arange(0, PADDED_OUT)
                target = features + sample[:, None] * OUTPUTS + column[None, :]
                tl.store(target, geo_features, mask=row_mask(mask, OUTPUTS, PADDED_OUT))
            sums = tl.dot(geo_features, third) + bias3
            sums += load_per_ray(ray_bias, sample, samples, mask, COLOR_HIDDEN, COLOR_HIDDEN)
            sums = tl.dot(activate(sums), fourth) + bias4
            rgb = tl.sigmoid(tl.dot(activate(sums), last) + bias5)
            channel = tl.arange(0, 16)
            target = color + sample[:, None] * 3 + channel[None, :]
            tl.store(target, rgb, mask=row_mask(mask, 3, 16))
        else:
            column = tl.arange(0, PADDED_OUT)
            target = out + sample[:, None] * OUTPUTS + column[None, :]
            tl.store(target, outputs, mask=row_mask(mask, OUTPUTS, PADDED_OUT))
        if not KEEP:
            tl.debug_barrier()
