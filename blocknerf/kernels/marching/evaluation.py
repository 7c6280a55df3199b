"""Hash grid and networks on compacted samples, for Numba."""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.fast_exp import exp_approx
from blocknerf.kernels.hash_grid.numba_corners import copy_features
from blocknerf.kernels.hash_grid.numba_impl import encode_tile
from blocknerf.kernels.marching.ray_simd import COLOR, COLOR_WEIGHT, MIN_WEIGHT, RAYS
from blocknerf.kernels.mlp.buffer_layout import ACTIVATION, BIAS, PADDED_IN, PADDED_OUT, TILE
from blocknerf.kernels.mlp.matmul import LANES
from blocknerf.kernels.mlp.tile import INDEX_ZERO, relu_, run_layer
from blocknerf.kernels.radiance.params import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.numba_config import FASTMATH

_ONE, _VECTOR = np.float32(1.0), (0,) * LANES
_SHIFT, _LIMIT = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def evaluate(network, count, workspace, first, keep_features):
    """Compute density logits of `count` points; with `keep_features`, also store their features from row `first` on."""
    table, scales, levels, width, parameters, layers = network
    row, out, logits = layers[0, PADDED_IN], layers[-1, PADDED_OUT], workspace.logits
    encoded = workspace.encoded[: count * row].reshape(count, row)
    points, stds = workspace.points[:count], workspace.stds[:count]
    encode_tile(INDEX_ZERO, points, table, stds, scales, levels, encoded, width, workspace.corners, workspace.entries)
    for start in range(0, count, TILE):
        count_in_tile = min(TILE, count - start)
        sums = _run_network(
            workspace.encoded, start * row, parameters, layers[0, BIAS], INDEX_ZERO, parameters, layers,
            workspace.activations,
        )  # fmt: skip
        for point in range(count_in_tile):
            logits[start + point] = sums[point * out]
        if keep_features:
            target = workspace.features[(first + start) * out : (first + start + count_in_tile) * out]
            for column in range(target.shape[0]):
                target[column] = sums[column]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _run_network(source, start, bias, bias_start, bias_row, parameters, layers, activations):
    """Return a network's outputs for a tile of inputs, a view of `activations`."""
    sums = run_layer(layers[0], source, start, bias, bias_start, bias_row, parameters, activations)
    for layer in range(1, layers.shape[0]):
        relu_(sums)
        info = layers[layer]
        sums = run_layer(info, activations, info[ACTIVATION], parameters, info[BIAS], 0, parameters, activations)
    return sums


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def optical_thickness(count, first, scale, workspace):
    """Store the optical thickness of `count` samples, with slots from `first` on."""
    logits, slots = workspace.logits[:count], workspace.slots[first : first + count]
    distances, thickness = workspace.distances, workspace.thickness
    for sample in range(logits.shape[0]):
        logit = logits[sample] - _SHIFT
        logits[sample] = scale * exp_approx(_LIMIT if logit > _LIMIT else logit)
    for sample in range(logits.shape[0]):
        slot = slots[sample]
        thickness[slot] = logits[sample] * (distances[slot + RAYS] - distances[slot])


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def shade_samples(colors, num_samples, biases, workspace):
    """Add the colors of samples with enough weight, among the first `num_samples`, to their rays."""
    parameters, layers = colors
    slots, weights, state = workspace.slots, workspace.weights, workspace.state
    indices, rgb = workspace.indices, workspace.rgb
    count, out = INDEX_ZERO, layers[-1, PADDED_OUT]
    for sample in range(num_samples):
        slot = slots[sample]
        indices[count] = sample
        count += weights[slot] > state[MIN_WEIGHT * RAYS + slot % RAYS]
    for first in range(0, count, TILE):
        count_in_tile = min(TILE, count - first)
        _gather_inputs(indices[first : first + count_in_tile], biases, layers[0], workspace)
        sums = _run_network(
            workspace.inputs, INDEX_ZERO, workspace.bias, INDEX_ZERO, layers[0, PADDED_OUT], parameters, layers,
            workspace.activations,
        )  # fmt: skip
        for channel in range(3):
            for point in range(TILE):
                rgb[channel * TILE + point] = sums[point * out + channel]
        for column in range(3 * TILE):
            rgb[column] = _ONE / (_ONE + exp_approx(-rgb[column]))
        for point in range(count_in_tile):
            slot = slots[indices[first + point]]
            lane, weight = slot % RAYS, weights[slot]
            state[COLOR_WEIGHT * RAYS + lane] += weight
            for channel in range(3):
                state[(COLOR + channel) * RAYS + lane] += weight * rgb[channel * TILE + point]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _gather_inputs(tile, biases, info, workspace):
    """Gather the features of samples and the biases of their rays."""
    row, width = info[PADDED_IN], info[PADDED_OUT]
    features, slots, inputs, bias = workspace.features, workspace.slots, workspace.inputs, workspace.bias
    for point in range(tile.shape[0]):
        for column in range(0, row, LANES):
            copy_features(features, tile[point] * row + column, inputs, point * row + column, _VECTOR)
        ray = slots[tile[point]] % RAYS
        for column in range(0, width, LANES):
            copy_features(biases, ray * width + column, bias, point * width + column, _VECTOR)
