"""Tiles of encoded samples for Numba: through a field's two networks, and back."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.fast_exp import exp
from blocknerf.kernels.hash_grid.numba_impl import arrange
from blocknerf.kernels.mlp.backward import go_back
from blocknerf.kernels.mlp.buffer_layout import INPUT_ROOM, OUTPUT_ROOM, TILE
from blocknerf.kernels.mlp.tile import INDEX_ZERO, clear, part, run_layers
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.numba_config import FASTMATH

HUES = 4 * TILE
"""Numbers of scratch for what a tile gives: logits, then three channels."""

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_SHIFT, _LIMIT = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def through_networks(first, last, encoded, rows, field, tint, hues, scale, density, color):
    """Density and color of the samples from `first` to `last`; a network is its parameters, layers and scratch."""
    (parameters, layers, room), (tints, tint_layers, tint_room) = field, tint
    source, row = encoded.reshape(-1), encoded.shape[1]
    samples = density.shape[0] // max(1, rows.shape[0])
    for start in range(first, last, TILE):
        count = min(TILE, last - start)
        features = run_layers(
            layers, source, start * row, start, count, rows, INDEX_ZERO, parameters, layers.shape[0], room
        )
        logits = run_layers(
            tint_layers, room, features, start, count, rows, samples, tints, tint_layers.shape[0], tint_room
        )
        _gather(room[features:], layers[-1, OUTPUT_ROOM], tint_room[logits:], tint_layers[-1, OUTPUT_ROOM], hues)
        _activate(hues[:TILE], hues[TILE : 4 * TILE], scale)
        _give(hues, density[start : start + count], color[start : start + count])


@njit(error_model="numpy")
@no_type_check
def _gather(features, width, logits, tint_width, hues):
    for sample in range(TILE):
        hues[sample] = features[sample * width]
        for channel in range(3):
            hues[(1 + channel) * TILE + sample] = logits[sample * tint_width + channel]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _activate(logits, hues, scale):
    for sample in range(TILE):
        logit = logits[sample] - _SHIFT
        logits[sample] = scale * exp(_LIMIT if logit > _LIMIT else logit)
    for place in range(3 * TILE):
        hues[place] = _ONE / (_ONE + exp(-hues[place]))


@njit(error_model="numpy")
@no_type_check
def _give(hues, density, color):
    for sample in range(density.shape[0]):
        density[sample] = hues[sample]
        for channel in range(3):
            color[sample, channel] = hues[(1 + channel) * TILE + sample]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def back_through_part(
    chunk, encoded, width, rows, field, tint, fades, density, color, to_density, to_color, above, below, planes,
    to_rows, field_own, tint_own, learns, deep,
):  # fmt: skip
    """Gradients of one part of the samples: of rows, of encoded features in planes, of parameters in its own sums."""
    (parameters, layers, room), (tints, tint_layers, tint_room) = field, tint
    source, row = encoded.reshape(-1), encoded.shape[1]
    first, last, samples = part(chunk, density.shape[0], rows.shape[0])
    clear(field_own)
    clear(tint_own)
    if samples:
        clear(to_rows.reshape(-1)[first // samples * to_rows.shape[1] : last // samples * to_rows.shape[1]])
    for start in range(first, last, TILE):
        count, end = min(TILE, last - start), min(start + TILE, last)
        place = start * row
        features = run_layers(layers, source, place, start, count, rows, INDEX_ZERO, parameters, layers.shape[0], room)
        run_layers(tint_layers, room, features, start, count, rows, samples, tints, tint_layers.shape[0] - 1, tint_room)
        _to_logits(color[start:end], to_color[start:end], above, tint_layers[-1, OUTPUT_ROOM])
        above, below = go_back(
            tint_layers, room, features, start, count, samples, tints, tint_room, above, below, tint_own, to_rows,
            learns, learns or deep,
        )  # fmt: skip
        if learns or deep:
            _add_density(density[start:end], to_density[start:end], above, tint_layers[0, INPUT_ROOM])
            if fades.shape[0]:
                _fade(fades[start:end], above, tint_layers[0, INPUT_ROOM])
            above, below = go_back(
                layers, source, place, start, count, INDEX_ZERO, parameters, room, above, below, field_own, to_rows,
                learns, deep,
            )  # fmt: skip
        if deep:
            arrange(above, 0, row, start, planes, width, count)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _to_logits(color, to_color, above, width):
    """Gradients of a tile's logits of color, padded by zeros."""
    clear(above[: TILE * width])
    for sample in range(color.shape[0]):
        for channel in range(3):
            value = color[sample, channel]
            above[sample * width + channel] = to_color[sample, channel] * value * (_ONE - value)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _add_density(density, to_density, above, width):
    for sample in range(density.shape[0]):
        above[sample * width] += to_density[sample] * density[sample]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _fade(fades, above, width):
    tile = above[: TILE * width].reshape(TILE, width)
    for sample in range(fades.shape[0]):
        for column in range(width):
            tile[sample, column] *= fades[sample]
