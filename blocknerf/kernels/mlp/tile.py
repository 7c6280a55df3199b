"""One layer for a tile of points, for Numba: what every kernel that runs a network is made of."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.compilation import FASTMATH
from blocknerf.kernels.mlp.layout import ACTIVATION, FORWARD, INPUT_ROOM, INPUTS, OUTPUT_ROOM, TILE
from blocknerf.kernels.mlp.products import product

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
