"""Gradients of layers for a tile of points, for Numba: from what a network gave back to what it was given."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.mlp.buffer_layout import (
    ACTIVATION,
    BACKWARD,
    BIAS,
    GRADIENT,
    INPUT_ROOM,
    OUTPUT_ROOM,
    OUTPUTS,
    TILE,
)
from blocknerf.kernels.mlp.matmul import ROWS, product
from blocknerf.numba_config import FASTMATH

_ZERO = np.float32(0.0)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def go_back(layers, source, start, first, count, samples, parameters, room, above, below, own, rows, learns, deep):
    """The gradients of a tile's inputs - in one of the two buffers, the other is given second - from those `above`.

    `source`, `start`, `first`, `count`, `samples`, `room` are those of `run_layers`. Gradients of parameters are added
    to `own` where the network `learns`, those of rays to `rows`; those of inputs are found where `deep` asks for them.
    """
    for layer in range(layers.shape[0] - 1, -1, -1):
        facts = layers[layer]
        if learns and layer:
            to_parameters(facts, above, room, facts[ACTIVATION], own)
        elif learns:
            to_parameters(facts, above, source, start, own)
        if layer == 0 and samples:
            to_rows(above, facts[OUTPUT_ROOM], samples, first, count, rows)
        if layer > 0 or deep:
            to_layer_below(facts, parameters, above, below)
            if layer > 0:
                mask(below, room[facts[ACTIVATION] :], TILE * facts[INPUT_ROOM])
            above, below = below, above
    return above, below


@njit(fastmath=FASTMATH)
@no_type_check
def to_parameters(facts, above, source, start, own):
    """Add a tile's gradients of the weight and bias of a layer that was given what `source[start]` begins."""
    width, target, columns = facts[OUTPUT_ROOM], facts[GRADIENT], facts[INPUT_ROOM]
    rows = (facts[OUTPUTS] + ROWS - 1) // ROWS * ROWS
    product(above, 0, 1, width, source, start, own, target, columns, own, target, rows, columns, TILE)
    to_bias(above, width, own[facts[BIAS] : facts[BIAS] + width])


@njit(fastmath=FASTMATH)
@no_type_check
def to_bias(above, width, bias):
    fours = above[: TILE * width].reshape(TILE // 4, 4 * width)
    for four in range(TILE // 4):
        a, b = fours[four, :width], fours[four, width : 2 * width]
        c, d = fours[four, 2 * width : 3 * width], fours[four, 3 * width :]
        for output in range(width):
            bias[output] += (a[output] + b[output]) + (c[output] + d[output])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def to_rows(above, width, samples, start, count, to_rows):
    gradients = above[: TILE * width].reshape(TILE, width)
    first = 0
    while first < count:
        ray = (start + first) // samples
        last = min(count, (ray + 1) * samples - start)
        row, part = to_rows[ray], gradients[first:last]
        for point in range(last - first):
            for output in range(row.shape[0]):
                row[output] += part[point, output]
        first = last


@njit(fastmath=FASTMATH)
@no_type_check
def to_layer_below(facts, parameters, above, below):
    width, step, backward, depth = facts[INPUT_ROOM], facts[OUTPUT_ROOM], facts[BACKWARD], facts[OUTPUTS]
    zeros = parameters.shape[0] - width
    product(above, 0, step, 1, parameters, backward, parameters, zeros, 0, below, 0, TILE, width, depth)


@njit(fastmath=FASTMATH)
@no_type_check
def mask(gradients, values, count):
    """Drop gradients where the ReLU gave zero."""
    for index in range(count):
        gradients[index] = _ZERO if values[index] <= _ZERO else gradients[index]
