"""Grid and networks for the samples that were gathered, for Numba."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.fast_exp import exp
from blocknerf.kernels.hash_grid.numba_corners import move
from blocknerf.kernels.hash_grid.numba_impl import encode_tile
from blocknerf.kernels.marching.ray_simd import COLOR, LEAST, RAYS, SEEN
from blocknerf.kernels.mlp.buffer_layout import ACTIVATION, BIAS, INPUT_ROOM, OUTPUT_ROOM, TILE
from blocknerf.kernels.mlp.matmul import LANES
from blocknerf.kernels.mlp.tile import INDEX_ZERO, rectify, run_layer
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.numba_config import FASTMATH

_ONE, _VECTOR = np.float32(1.0), (0,) * LANES
_SHIFT, _LIMIT = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def evaluate(part, count, scratch, first, keep):
    """The logits of density at `count` points, and their features from row `first` on where they are to be kept."""
    table, scales, levels, width, parameters, layers = part
    row, out, logits = layers[0, INPUT_ROOM], layers[-1, OUTPUT_ROOM], scratch.logits
    encoded = scratch.encoded[: count * row].reshape(count, row)
    points, spreads = scratch.points[:count], scratch.spreads[:count]
    encode_tile(INDEX_ZERO, points, table, spreads, scales, levels, encoded, width, scratch.corners, scratch.entries)
    for start in range(0, count, TILE):
        last = min(TILE, count - start)
        sums = _run(
            scratch.encoded, start * row, parameters, layers[0, BIAS], INDEX_ZERO, parameters, layers, scratch.room
        )
        for point in range(last):
            logits[start + point] = sums[point * out]
        if keep:
            target = scratch.features[(first + start) * out : (first + start + last) * out]
            for place in range(target.shape[0]):
                target[place] = sums[place]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _run(source, start, added, added_start, added_row, parameters, layers, room):
    """The outputs of a network for a tile of inputs, a view of `room`."""
    sums = run_layer(layers[0], source, start, added, added_start, added_row, parameters, room)
    for layer in range(1, layers.shape[0]):
        rectify(sums)
        facts = layers[layer]
        sums = run_layer(facts, room, facts[ACTIVATION], parameters, facts[BIAS], 0, parameters, room)
    return sums


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def thicken(count, first, scale, scratch):
    """Put the optical thickness of the last `count` samples, whose slots begin at `first`, into their slots."""
    logits, slots = scratch.logits[:count], scratch.slots[first : first + count]
    distances, thickness = scratch.distances, scratch.thickness
    for sample in range(logits.shape[0]):
        logit = logits[sample] - _SHIFT
        logits[sample] = scale * exp(_LIMIT if logit > _LIMIT else logit)
    for sample in range(logits.shape[0]):
        slot = slots[sample]
        thickness[slot] = logits[sample] * (distances[slot + RAYS] - distances[slot])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def color_samples(colors, total, biases, scratch):
    """Add the colors of those of the first `total` samples that weigh enough to their rays."""
    parameters, layers = colors
    slots, weights, lanes, chosen, hues = scratch.slots, scratch.weights, scratch.lanes, scratch.chosen, scratch.hues
    count, out = INDEX_ZERO, layers[-1, OUTPUT_ROOM]
    for sample in range(total):
        slot = slots[sample]
        chosen[count] = sample
        count += weights[slot] > lanes[LEAST * RAYS + slot % RAYS]
    for first in range(0, count, TILE):
        last = min(TILE, count - first)
        _fetch(chosen[first : first + last], biases, layers[0], scratch)
        sums = _run(
            scratch.given, INDEX_ZERO, scratch.added, INDEX_ZERO, layers[0, OUTPUT_ROOM], parameters, layers,
            scratch.room,
        )  # fmt: skip
        for channel in range(3):
            for point in range(TILE):
                hues[channel * TILE + point] = sums[point * out + channel]
        for place in range(3 * TILE):
            hues[place] = _ONE / (_ONE + exp(-hues[place]))
        for point in range(last):
            slot = slots[chosen[first + point]]
            lane, weight = slot % RAYS, weights[slot]
            lanes[SEEN * RAYS + lane] += weight
            for channel in range(3):
                lanes[(COLOR + channel) * RAYS + lane] += weight * hues[channel * TILE + point]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _fetch(tile, biases, facts, scratch):
    """Gather the features of samples, and the biases of their rays."""
    row, width = facts[INPUT_ROOM], facts[OUTPUT_ROOM]
    features, slots, given, added = scratch.features, scratch.slots, scratch.given, scratch.added
    for point in range(tile.shape[0]):
        for place in range(0, row, LANES):
            move(features, tile[point] * row + place, given, point * row + place, _VECTOR)
        ray = slots[tile[point]] % RAYS
        for place in range(0, width, LANES):
            move(biases, ray * width + place, added, point * width + place, _VECTOR)
