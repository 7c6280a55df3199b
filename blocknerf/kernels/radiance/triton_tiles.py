"""Tile operations for Triton: encoded features through memory to a matrix, and helpers for layers.

Encoding computes one number per sample, but matrix products need a tile. In between, features pass through memory in
one plane per level, which stays in the cache. Training keeps them for the backward pass anyway.
"""

from typing import no_type_check

import triton
import triton.language as tl

from blocknerf.kernels import precision
from blocknerf.kernels.hash_grid.triton_cells import antialias_weight, interpolate, pack_half2

HALF_MAX = tl.constexpr(precision.HALF_MAX)


@triton.jit
@no_type_check
def to_half_saturating(x):
    """Convert to half precision, saturating instead of overflowing; NaN stays NaN."""
    x = tl.where(x > HALF_MAX, HALF_MAX, x)
    return tl.where(x < -HALF_MAX, -HALF_MAX, x).to(tl.float16)


@triton.jit
@no_type_check
def activate(x):
    """ReLU of a hidden layer, saturated to half precision; NaN stays NaN."""
    x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(x, HALF_MAX, propagate_nan=tl.PropagateNan.ALL).to(tl.float16)


@triton.jit
@no_type_check
def encode_tile(
    x, y, z, std, gains, scales, levels, words, planes, index, stride, mask,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, GAINS: tl.constexpr,
):  # fmt: skip
    """Store encoded samples at `index` of planes, one plane per level, as one integer per entry."""
    for level in range(LEVELS):
        gain = tl.load(gains + level) if GAINS else 1.0
        factor = antialias_weight(std, gain, tl.load(scales + level))
        a, b, c, d = interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES)
        bits = pack_half2(a, b)
        if FEATURES == 4:
            bits = (bits.to(tl.int64) & 0xFFFFFFFF) | (pack_half2(c, d).to(tl.int64) << 32)
        tl.store(planes + level * stride + index, bits, mask=mask)


@triton.jit
@no_type_check
def load_tile(half_planes, index, stride, mask, LEVELS: tl.constexpr, FEATURES: tl.constexpr, PADDED_IN: tl.constexpr):
    """Load encoded samples as a matrix, from half-precision planes."""
    column = tl.arange(0, PADDED_IN)
    offset = (
        (column // FEATURES * stride)[None, :] * FEATURES + index[:, None] * FEATURES + (column % FEATURES)[None, :]
    )
    return tl.load(half_planes + offset, mask=row_mask(mask, LEVELS * FEATURES, PADDED_IN), other=0.0)


@triton.jit
@no_type_check
def row_mask(mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Return the mask of a tile's elements that are not padding."""
    # Without padding, skip the column test: it would cost an instruction per element.
    return mask[:, None] if WIDTH == PADDED else mask[:, None] & (tl.arange(0, PADDED) < WIDTH)[None, :]


@triton.jit
@no_type_check
def load_weight(
    weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr
):
    """Load a weight as stored, [outputs, inputs], padded by zeros."""
    row, column = tl.arange(0, PADDED_ROWS), tl.arange(0, PADDED_COLUMNS)
    offset = weight + row[:, None] * COLUMNS + column[None, :]
    if ROWS == PADDED_ROWS and COLUMNS == PADDED_COLUMNS:
        return tl.load(offset)
    return tl.load(offset, mask=(row < ROWS)[:, None] & (column < COLUMNS)[None, :], other=0.0)


@triton.jit
@no_type_check
def load_transposed(
    weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PADDED_ROWS: tl.constexpr, PADDED_COLUMNS: tl.constexpr
):
    """Load the transpose of a weight in half precision, padded by zeros; inputs are multiplied by it."""
    row, column = tl.arange(0, PADDED_ROWS), tl.arange(0, PADDED_COLUMNS)
    offset = weight + row[None, :] * COLUMNS + column[:, None]
    mask = (row < ROWS)[None, :] & (column < COLUMNS)[:, None]
    return to_half_saturating(tl.load(offset, mask=mask, other=0.0))


@triton.jit
@no_type_check
def load_bias(bias, COUNT: tl.constexpr, PADDED: tl.constexpr):
    """Load a bias as one row, padded by zeros."""
    column = tl.arange(0, PADDED)
    return tl.load(bias + column, mask=column < COUNT, other=0.0)[None, :]


@triton.jit
@no_type_check
def load_per_ray(rows, sample, samples, mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load for each sample the row of its ray."""
    offset = (sample // samples)[:, None] * WIDTH + tl.arange(0, PADDED)[None, :]
    return tl.load(rows + offset, mask=row_mask(mask, WIDTH, PADDED), other=0.0)


@triton.jit
@no_type_check
def extract_column(x, COLUMN: tl.constexpr, PADDED: tl.constexpr):
    """Return one column of a tile, one number per row."""
    return tl.sum(tl.where((tl.arange(0, PADDED) == COLUMN)[None, :], x, 0.0), axis=1)
