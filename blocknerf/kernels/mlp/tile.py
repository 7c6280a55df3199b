"""Layers for a tile of points, for all Numba kernels that run a network."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.mlp.buffer_layout import ACTIVATION, BIAS, FORWARD, INPUTS, PADDED_IN, PADDED_OUT, TILE
from blocknerf.kernels.mlp.matmul import matmul
from blocknerf.numba_config import FASTMATH

NUM_CHUNKS = 16
"""Chunks that points are split into, whatever the number of threads. Their sums are added in order."""

INDEX_ZERO = np.int64(0)
"""Initial value of indices and counts: for a literal 0, Numba would compile the called function once more."""

_ZERO = np.float32(0.0)


@njit
@no_type_check
def run_layer(info, source, start, addend, addend_start, addend_row, parameters, workspace):
    """Return the sums of one layer, a view of `workspace`, for a tile of inputs from `source[start]` on.

    `addend` is added to the products, with row stride `addend_row`; zero repeats one row, such as the bias.
    """
    step, width = info[PADDED_IN], info[PADDED_OUT]
    target, forward, depth = info[ACTIVATION] + TILE * step, info[FORWARD], info[INPUTS]
    matmul(
        source, start, step, 1, parameters, forward, addend, addend_start, addend_row, workspace, target, TILE, width,
        depth,
    )  # fmt: skip
    return workspace[target : target + TILE * width]


@njit(fastmath=FASTMATH)
@no_type_check
def relu_(values):
    """Replace negative values by zero, in place."""
    for index in range(values.shape[0]):
        value = values[index]
        # This form keeps NaN.
        values[index] = _ZERO if value < _ZERO else value


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def run_layers(layers, source, start, first, count, ray_bias, samples, parameters, num_layers, workspace):
    """Run a tile of inputs from `source[start]` on through the first `num_layers` layers, with outputs in `workspace`.

    `ray_bias` is added to the first layer's sums, one row per `samples` points; the tile starts at point `first`.
    Return the offset of the last output in `workspace`.
    """
    for layer in range(num_layers):
        info = layers[layer]
        if layer:
            sums = run_layer(info, workspace, info[ACTIVATION], parameters, info[BIAS], 0, parameters, workspace)
        else:
            sums = run_layer(info, source, start, parameters, info[BIAS], 0, parameters, workspace)
            if samples:
                add_ray_bias(sums.reshape(TILE, info[PADDED_OUT]), ray_bias, samples, first, count)
        if layer < layers.shape[0] - 1:
            relu_(sums)
    return layers[num_layers - 1, ACTIVATION] + TILE * layers[num_layers - 1, PADDED_IN]


@njit(inline="always")
@no_type_check
def chunk_bounds(chunk, points, rays):
    """Return the first and last point of a chunk, which does not split rays, and the samples per ray."""
    samples = points // rays if rays else 0
    unit = samples if samples else TILE
    units = (points + unit - 1) // unit
    first, last = chunk * units // NUM_CHUNKS * unit, (chunk + 1) * units // NUM_CHUNKS * unit
    return first, min(last, points), samples


# LLVM vectorizes a loop only if it sees that indices start at zero and bounds are constant. Hence the views, and the
# bounds read into names before each loop.


@njit(error_model="numpy")
@no_type_check
def add_ray_bias(sums, ray_bias, samples, start, count):
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = ray_bias[ray], sums[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                part[point, output] += row[output]
        first = last


@njit
@no_type_check
def zero_(values):
    for index in range(values.shape[0]):
        values[index] = _ZERO


@njit
@no_type_check
def copy_in(flat, start, count, columns, workspace, width):
    """Copy a tile's rows into padded rows. Padding and missing rows become zero."""
    target, source = workspace[: TILE * width], flat[start * columns : (start + count) * columns]
    if count < TILE or columns < width:
        zero_(target)
    if columns == width:
        for index in range(source.shape[0]):  # a slice assignment would first copy the source
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
