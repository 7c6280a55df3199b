"""Layers for a tile of points, for Numba: what every kernel that runs a network is made of."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.mlp.buffer_layout import ACTIVATION, BIAS, FORWARD, INPUT_ROOM, INPUTS, OUTPUT_ROOM, TILE
from blocknerf.kernels.mlp.matmul import product
from blocknerf.numba_config import FASTMATH

CHUNKS = 16
"""Parts that points are cut into, whatever the number of threads: what each sums is added in order."""

INDEX_ZERO = np.int64(0)
"""For indexes and counts that begin at zero: for a plain 0 Numba compiles what it is given to once more."""

_ZERO = np.float32(0.0)


@njit
@no_type_check
def run_layer(facts, source, start, added, added_start, added_row, parameters, room):
    """The sums of one layer, a view of `room`, for a tile of inputs from `source[start]` on.

    `added` holds what is added to the products, a row every `added_row`: zero to repeat one, such as the bias.
    """
    step, width = facts[INPUT_ROOM], facts[OUTPUT_ROOM]
    target, forward, depth = facts[ACTIVATION] + TILE * step, facts[FORWARD], facts[INPUTS]
    product(
        source, start, step, 1, parameters, forward, added, added_start, added_row, room, target, TILE, width, depth
    )
    return room[target : target + TILE * width]


@njit(fastmath=FASTMATH)
@no_type_check
def rectify(values):
    """Make what is negative zero."""
    for index in range(values.shape[0]):
        value = values[index]
        # Written so that NaN stays NaN.
        values[index] = _ZERO if value < _ZERO else value


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def run_layers(layers, source, start, first, count, rows, samples, parameters, most, room):
    """Run a tile of inputs from `source[start]` on through the first `most` layers; `room` holds what each gave.

    `rows` are added to the first layer's sums, one to every `samples` points, of which the tile's begin at `first`.
    The result is where the last result begins in `room`.
    """
    for layer in range(most):
        facts = layers[layer]
        if layer:
            sums = run_layer(facts, room, facts[ACTIVATION], parameters, facts[BIAS], 0, parameters, room)
        else:
            sums = run_layer(facts, source, start, parameters, facts[BIAS], 0, parameters, room)
            if samples:
                add_rows(sums.reshape(TILE, facts[OUTPUT_ROOM]), rows, samples, first, count)
        if layer < layers.shape[0] - 1:
            rectify(sums)
    return layers[most - 1, ACTIVATION] + TILE * layers[most - 1, INPUT_ROOM]


@njit(inline="always")
@no_type_check
def part(chunk, points, rays):
    """First and last point of a chunk, cut between rays where points have them, and the samples of a ray."""
    samples = points // rays if rays else 0
    unit = samples if samples else TILE
    units = (points + unit - 1) // unit
    first, last = chunk * units // CHUNKS * unit, (chunk + 1) * units // CHUNKS * unit
    return first, min(last, points), samples


# LLVM vectorises a loop only where it sees that indexes start at zero and that bounds do not change: hence the views
# and the bounds read into names before each loop.


@njit(error_model="numpy")
@no_type_check
def add_rows(sums, rows, samples, start, count):
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = rows[ray], sums[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                part[point, output] += row[output]
        first = last


@njit
@no_type_check
def clear(values):
    for index in range(values.shape[0]):
        values[index] = _ZERO


@njit
@no_type_check
def copy_in(flat, start, count, columns, room, width):
    """Copy a tile's rows into padded ones; what is padded, and rows that the tile has not, become zero."""
    target, source = room[: TILE * width], flat[start * columns : (start + count) * columns]
    if count < TILE or columns < width:
        clear(target)
    if columns == width:
        for index in range(source.shape[0]):  # an assignment of slices would first copy the source
            target[index] = source[index]
    else:
        padded, rows = target.reshape(TILE, width), source.reshape(count, columns)
        for point in range(count):
            for column in range(columns):
                padded[point, column] = rows[point, column]


@njit
@no_type_check
def copy_out(source, target):
    for point in range(target.shape[0]):
        for column in range(target.shape[1]):
            target[point, column] = source[point, column]
