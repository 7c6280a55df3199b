"""A tile of samples for Triton: its features to memory and back as a matrix, and layers on it.

Features are found one number a sample, and matrix products want them as a tile. Between the two they go through memory,
level by level in planes, which stays in the cache; training keeps them for the backward pass anyway.
"""

from typing import no_type_check

import triton
import triton.language as tl

from blocknerf.kernels import precision
from blocknerf.kernels.hash_grid.triton_cells import bits_of, fade, interpolate

LARGEST = tl.constexpr(precision.HALF_MAX)


@triton.jit
@no_type_check
def halve(x):
    """In half precision, saturated instead of overflowing; NaN stays NaN."""
    x = tl.where(x > LARGEST, LARGEST, x)
    return tl.where(x < -LARGEST, -LARGEST, x).to(tl.float16)


@triton.jit
@no_type_check
def activate(x):
    """What a hidden layer passes on: nothing below zero, saturated half precision above; NaN stays NaN."""
    x = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(x, LARGEST, propagate_nan=tl.PropagateNan.ALL).to(tl.float16)


@triton.jit
@no_type_check
def encode_tile(
    x, y, z, spread, gains, scales, levels, words, planes, at, stride, mask,
    LEVELS: tl.constexpr, FEATURES: tl.constexpr, GAINS: tl.constexpr,
):  # fmt: skip
    """Write the features of samples to places `at` of planes, one a level, an entry's as one integer."""
    for level in range(LEVELS):
        gain = tl.load(gains + level) if GAINS else 1.0
        factor = fade(spread, gain, tl.load(scales + level))
        a, b, c, d = interpolate(x, y, z, factor, words, scales, levels, level, mask, FEATURES)
        bits = bits_of(a, b)
        if FEATURES == 4:
            bits = (bits.to(tl.int64) & 0xFFFFFFFF) | (bits_of(c, d).to(tl.int64) << 32)
        tl.store(planes + level * stride + at, bits, mask=mask)


@triton.jit
@no_type_check
def load_tile(halves, at, stride, mask, LEVELS: tl.constexpr, FEATURES: tl.constexpr, INPUTS: tl.constexpr):
    """The features of samples as a matrix, from planes of numbers in half precision."""
    column = tl.arange(0, INPUTS)
    place = (column // FEATURES * stride)[None, :] * FEATURES + at[:, None] * FEATURES + (column % FEATURES)[None, :]
    return tl.load(halves + place, mask=among(mask, LEVELS * FEATURES, INPUTS), other=0.0)


@triton.jit
@no_type_check
def among(mask, WIDTH: tl.constexpr, ROOM: tl.constexpr):
    """Which numbers of a tile of rows are not padding."""
    # Where nothing is padded, nothing is asked of columns: it would cost an instruction a number.
    return mask[:, None] if WIDTH == ROOM else mask[:, None] & (tl.arange(0, ROOM) < WIDTH)[None, :]


@triton.jit
@no_type_check
def matrix(weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """A weight as it is stored, [outputs, inputs], padded by zeros to HIGH x WIDE."""
    row, column = tl.arange(0, HIGH), tl.arange(0, WIDE)
    place = weight + row[:, None] * COLUMNS + column[None, :]
    if ROWS == HIGH and COLUMNS == WIDE:
        return tl.load(place)
    return tl.load(place, mask=(row < ROWS)[:, None] & (column < COLUMNS)[None, :], other=0.0)


@triton.jit
@no_type_check
def turned(weight, ROWS: tl.constexpr, COLUMNS: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr):
    """The transpose of a weight in half precision, padded by zeros to WIDE x HIGH: what inputs are multiplied by."""
    row, column = tl.arange(0, HIGH), tl.arange(0, WIDE)
    place = weight + row[None, :] * COLUMNS + column[:, None]
    mask = (row < ROWS)[None, :] & (column < COLUMNS)[:, None]
    return halve(tl.load(place, mask=mask, other=0.0))


@triton.jit
@no_type_check
def vector(bias, COUNT: tl.constexpr, ROOM: tl.constexpr):
    """A bias as one row, padded by zeros."""
    column = tl.arange(0, ROOM)
    return tl.load(bias + column, mask=column < COUNT, other=0.0)[None, :]


@triton.jit
@no_type_check
def of_rays(rows, sample, samples, mask, WIDTH: tl.constexpr, ROOM: tl.constexpr):
    """For each sample the row of its ray."""
    place = (sample // samples)[:, None] * WIDTH + tl.arange(0, ROOM)[None, :]
    return tl.load(rows + place, mask=among(mask, WIDTH, ROOM), other=0.0)


@triton.jit
@no_type_check
def column_of(x, COLUMN: tl.constexpr, ROOM: tl.constexpr):
    """One column of a tile, as one number a row."""
    return tl.sum(tl.where((tl.arange(0, ROOM) == COLUMN)[None, :], x, 0.0), axis=1)
