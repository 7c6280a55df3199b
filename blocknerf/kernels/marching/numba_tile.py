"""A tile of rays for Numba: its memory, operations on all of its rays, and networks on its compacted samples.

The state of the rays is one flat array, with rows of length RAYS, so a loop over rays is a loop over vector lanes.
Per-sample values are flat too, with one row of rays per sample; the index of a sample there is its slot.

Memory is allocated outside the kernel, once per thread. Numba counts references to memory allocated inside at every
view of it, and with views in loops that took an eighth of the time.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.contraction.numba_impl import contraction_scale
from blocknerf.kernels.hash_grid.numba_corners import copy_features
from blocknerf.kernels.hash_grid.numba_impl import NUM_FLOATS, NUM_INDICES, encode_tile
from blocknerf.kernels.marching.api import MIN_TRANSMITTANCE
from blocknerf.kernels.mlp.numba_layers import (
    ACTIVATION,
    BIAS,
    INDEX_ZERO,
    PADDED_IN,
    PADDED_OUT,
    TILE,
    BufferLayout,
    relu_,
    run_layer,
)
from blocknerf.kernels.mlp.numba_matmul import LANES
from blocknerf.kernels.numba_ops import CACHE_LINE, aligned_rows, exp_approx
from blocknerf.kernels.radiance import DENSITY_LIMIT, DENSITY_SHIFT
from blocknerf.numba_config import FASTMATH

RAYS = 128
"""Rays per tile: few enough that their state stays in the L1 cache."""
WAVE = 4
"""Samples per ray that are evaluated between tests of its transmittance."""

ORIGIN, DIRECTION, RADIUS, TRANSMITTANCE, POSITION, STD, OPACITY, DEPTH, MIN_WEIGHT, COLOR_WEIGHT, COLOR, ROWS = (
    0, 3, 6, 7, 8, 11, 12, 13, 14, 15, 16, 19,
)  # fmt: skip
"""Rows: origin (3) and direction (3) in half extents, radius, transmittance, a sample's position (3) and standard
deviation; then sums over the ray: opacity, depth, minimum weight to be shaded, shaded weight, and color (3)."""

_ZERO, _ONE, _TWO, _HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
_MIN_TRANSMITTANCE, _INFINITY, _TINY = np.float32(MIN_TRANSMITTANCE), np.float32(np.inf), np.float32(1e-9)
_SHIFT, _LIMIT, _VECTOR = np.float32(DENSITY_SHIFT), np.float32(DENSITY_LIMIT), (0,) * LANES


class Workspace(NamedTuple):
    """Workspace fields in memory order: first floats, then integers."""

    state: np.ndarray
    uniform_edges: np.ndarray
    edges: np.ndarray
    distances: np.ndarray
    thickness: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    stds: np.ndarray
    logits: np.ndarray
    encoded: np.ndarray
    features: np.ndarray
    activations: np.ndarray
    inputs: np.ndarray
    bias: np.ndarray
    rgb: np.ndarray
    corners: np.ndarray
    cell: np.ndarray
    slots: np.ndarray
    indices: np.ndarray
    entries: np.ndarray


FIRST_INT_FIELD = Workspace._fields.index("cell")
"""Index of the first integer field."""


def workspace_layout(
    counts: tuple[int, int], proposal: BufferLayout, field: BufferLayout, color: BufferLayout
) -> np.ndarray:
    """Return start and end of each field within the floats or the integers: [fields, 2]."""
    max_count, wave = max(counts), WAVE * RAYS
    features, biases = int(field.layers[-1, PADDED_OUT]), int(color.layers[0, PADDED_OUT])
    encoded = max(int(layout.layers[0, PADDED_IN]) for layout in (proposal, field))
    sizes = {
        "state": ROWS * RAYS, "uniform_edges": (counts[0] + 1) * RAYS, "edges": (counts[1] + 1) * RAYS,
        "distances": (max_count + 1) * RAYS, "thickness": max_count * RAYS, "weights": max_count * RAYS,
        "points": 3 * wave, "stds": wave, "logits": wave, "encoded": wave * encoded,
        "features": (counts[1] * RAYS + TILE) * features,
        "activations": max(layout.activations for layout in (proposal, field, color)), "inputs": TILE * features,
        "bias": TILE * biases, "rgb": 3 * TILE, "corners": NUM_FLOATS,
        "cell": RAYS, "slots": max_count * RAYS + wave, "indices": counts[1] * RAYS + 1, "entries": NUM_INDICES,
    }  # fmt: skip
    bounds = np.zeros((len(Workspace._fields), 2), np.int64)
    for field_index, name in enumerate(Workspace._fields):
        start = 0 if field_index in (0, FIRST_INT_FIELD) else -(-bounds[field_index - 1, 1] // CACHE_LINE) * CACHE_LINE
        bounds[field_index] = start, start + sizes[name]
    return bounds


def allocate(threads: int, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Allocate the floats and integers of all threads, one row each. Rows of floats start on cache lines."""
    row_length = -(-int(bounds[FIRST_INT_FIELD - 1, 1]) // CACHE_LINE) * CACHE_LINE
    return aligned_rows(threads, row_length), np.empty((threads, bounds[-1, 1]), np.int32)


@njit
@no_type_check
def view_workspace(floats, ints, bounds):
    """Return the workspace of a thread."""
    return Workspace(
        floats[bounds[0, 0] : bounds[0, 1]], floats[bounds[1, 0] : bounds[1, 1]],
        floats[bounds[2, 0] : bounds[2, 1]], floats[bounds[3, 0] : bounds[3, 1]],
        floats[bounds[4, 0] : bounds[4, 1]], floats[bounds[5, 0] : bounds[5, 1]],
        floats[bounds[6, 0] : bounds[6, 1]].reshape(-1, 3), floats[bounds[7, 0] : bounds[7, 1]],
        floats[bounds[8, 0] : bounds[8, 1]], floats[bounds[9, 0] : bounds[9, 1]],
        floats[bounds[10, 0] : bounds[10, 1]], floats[bounds[11, 0] : bounds[11, 1]],
        floats[bounds[12, 0] : bounds[12, 1]], floats[bounds[13, 0] : bounds[13, 1]],
        floats[bounds[14, 0] : bounds[14, 1]], floats[bounds[15, 0] : bounds[15, 1]],
        ints[bounds[16, 0] : bounds[16, 1]], ints[bounds[17, 0] : bounds[17, 1]],
        ints[bounds[18, 0] : bounds[18, 1]], ints[bounds[19, 0] : bounds[19, 1]],
    )  # fmt: skip


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def init_rays(first, origins, directions, radii, geometry, state):
    """Load rays from `first` on, relative to the block. Lanes without a ray have zero transmittance."""
    count, scale = min(RAYS, radii.shape[0] - first), _ONE / geometry[3]
    for row in range(ROWS):
        for lane in range(RAYS):
            state[row * RAYS + lane] = _ZERO
    for lane in range(count):
        for axis in range(3):
            state[(ORIGIN + axis) * RAYS + lane] = (origins[first + lane, axis] - geometry[axis]) * scale
            state[(DIRECTION + axis) * RAYS + lane] = directions[first + lane, axis] * scale
        state[RADIUS * RAYS + lane] = radii[first + lane] * _HALF * scale
        state[TRANSMITTANCE * RAYS + lane] = _ONE


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def edges_to_t(edges, geometry, distances):
    """Convert normalized positions to distances: linear up to the half extent, then linear in inverse distance."""
    linear_until, s_near, s_extent = geometry[3], geometry[4], geometry[5]
    for slot in range(edges.shape[0]):
        s = s_near + s_extent * edges[slot]
        remainder = _ONE - s
        remainder = _TINY if remainder < _TINY else remainder
        distances[slot] = linear_until * (_TWO * s if s < _HALF else _HALF / remainder)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def compact_samples(sample, cells, side, workspace, count, first):
    """Append a sample of each active ray in an occupied cell; slots start at `first`. Return the point count."""
    state, cell, points, stds = workspace.state, workspace.cell, workspace.points, workspace.stds
    slots, distances = workspace.slots[first:], workspace.distances
    _contract_samples(
        distances[sample * RAYS : (sample + 1) * RAYS], distances[(sample + 1) * RAYS :], side, state, cell
    )
    for lane in range(RAYS):
        if state[TRANSMITTANCE * RAYS + lane] >= _MIN_TRANSMITTANCE and cells[cell[lane]] != 0:
            points[count, 0] = state[POSITION * RAYS + lane]
            points[count, 1] = state[(POSITION + 1) * RAYS + lane]
            points[count, 2] = state[(POSITION + 2) * RAYS + lane]
            stds[count] = state[STD * RAYS + lane]
            slots[count] = sample * RAYS + lane
            count += 1
    return count


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _contract_samples(starts, ends, side, state, cell):
    """Compute the position of a sample of each ray in the unit cube, and its occupancy cell."""
    last, size = np.int32(side - 1), np.float32(side)
    for lane in range(RAYS):
        middle = _HALF * (starts[lane] + ends[lane])
        x = state[ORIGIN * RAYS + lane] + middle * state[DIRECTION * RAYS + lane]
        y = state[(ORIGIN + 1) * RAYS + lane] + middle * state[(DIRECTION + 1) * RAYS + lane]
        z = state[(ORIGIN + 2) * RAYS + lane] + middle * state[(DIRECTION + 2) * RAYS + lane]
        factor = contraction_scale(x, y, z)
        x, y, z = x * factor + _HALF, y * factor + _HALF, z * factor + _HALF
        state[POSITION * RAYS + lane] = x
        state[(POSITION + 1) * RAYS + lane] = y
        state[(POSITION + 2) * RAYS + lane] = z
        state[STD * RAYS + lane] = middle * state[RADIUS * RAYS + lane] * factor
        i = _cell(x * size, last)
        j = _cell(y * size, last)
        k = _cell(z * size, last)
        cell[lane] = np.int32(np.int32(i * np.int32(side)) + j) * np.int32(side) + k


@njit(fastmath=FASTMATH, error_model="numpy", inline="always")
@no_type_check
def _cell(position, last):
    """Return the cell of a coordinate; 0 for NaN."""
    number = np.int32(position if position >= _ZERO else _ZERO)
    return last if number > last else number


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def raise_stds(count, limits, side, workspace):
    """Raise the standard deviations of points to a limit, interpolated between the centers of its cells."""
    points, stds = workspace.points[:count], workspace.stds[:count]
    last, size = np.int32(side - 1), np.float32(side)
    row, plane = np.int32(side), np.int32(side) * np.int32(side)
    for point in range(points.shape[0]):
        i, step_i, u = _lower_cell(points[point, 0] * size - _HALF, last, plane)
        j, step_j, v = _lower_cell(points[point, 1] * size - _HALF, last, row)
        k, step_k, w = _lower_cell(points[point, 2] * size - _HALF, last, np.int32(1))
        first = i + j + k
        limit = _mix(
            _mix(
                _mix(limits[first], limits[first + step_k], w),
                _mix(limits[first + step_j], limits[first + step_j + step_k], w),
                v,
            ),
            _mix(
                _mix(limits[first + step_i], limits[first + step_i + step_k], w),
                _mix(limits[first + step_i + step_j], limits[first + step_i + step_j + step_k], w),
                v,
            ),
            u,
        )
        stds[point] = max(stds[point], limit)


@njit(fastmath=FASTMATH, error_model="numpy", inline="always")
@no_type_check
def _lower_cell(position, last, stride):
    """Return index offsets of the cell below a position and from there to the one above, and the fraction between."""
    number = _cell(position, last)
    fraction = position - np.float32(number)
    fraction = _ZERO if fraction < _ZERO else fraction
    return number * stride, stride if number < last else np.int32(0), fraction


@njit(fastmath=FASTMATH, error_model="numpy", inline="always")
@no_type_check
def _mix(first, second, fraction):
    return first + fraction * (second - first)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def accumulate_weight(sample, thickness, state, weights):
    """Convert a sample's thickness to its weight. The first with too little transmittance absorbs all of it."""
    sample_thickness = thickness[sample * RAYS : (sample + 1) * RAYS]
    weight = weights[sample * RAYS : (sample + 1) * RAYS]
    for lane in range(RAYS):
        transmittance = state[TRANSMITTANCE * RAYS + lane]
        remaining = transmittance * exp_approx(-sample_thickness[lane])
        remaining = _ZERO if transmittance < _MIN_TRANSMITTANCE else remaining
        weight[lane] = transmittance - remaining
        state[TRANSMITTANCE * RAYS + lane] = remaining


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def accumulate_ray(samples, weights, distances, state):
    """Sum opacity and depth of each ray, and set the minimum weight of samples to be shaded."""
    for sample in range(samples):
        weight = weights[sample * RAYS : (sample + 1) * RAYS]
        start, end = distances[sample * RAYS : (sample + 1) * RAYS], distances[(sample + 1) * RAYS :]
        for lane in range(RAYS):
            state[OPACITY * RAYS + lane] += weight[lane]
            state[DEPTH * RAYS + lane] += weight[lane] * _HALF * (start[lane] + end[lane])
    for lane in range(RAYS):
        opacity = state[OPACITY * RAYS + lane]
        state[MIN_WEIGHT * RAYS + lane] = opacity * _MIN_TRANSMITTANCE if opacity > _MIN_TRANSMITTANCE else _INFINITY


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def write_rays(first, sky, geometry, state, color, depth, opacity):
    """Write the tile's results. Unshaded samples take the mean color of the others; the rest is sky."""
    for lane in range(min(RAYS, depth.shape[0] - first)):
        ray, ray_opacity, color_weight = first + lane, state[OPACITY * RAYS + lane], state[COLOR_WEIGHT * RAYS + lane]
        scale = ray_opacity / color_weight if color_weight > _ZERO else _ZERO
        sky_weight = _ONE - ray_opacity if color_weight > _ZERO else _ONE
        for channel in range(3):
            color[ray, channel] = scale * state[(COLOR + channel) * RAYS + lane] + sky_weight * sky[ray, channel]
        opacity[ray] = ray_opacity
        depth[ray] = state[DEPTH * RAYS + lane] + max(_ONE - ray_opacity, _ZERO) * geometry[6]


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
