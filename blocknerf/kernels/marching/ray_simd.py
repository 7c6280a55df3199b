"""Vectorized operations on all rays of a tile, for Numba: a loop over rays is a loop over vector lanes.

The state of the rays is one flat array, with rows of length RAYS. Per-sample values are flat too, with one row of rays
per sample; the index of a sample there is its slot.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.contraction.numba_impl import contraction_scale
from blocknerf.kernels.fast_exp import exp_approx
from blocknerf.kernels.marching.params import MIN_TRANSMITTANCE
from blocknerf.numba_config import FASTMATH

RAYS = 128
"""Rays per tile: few enough that their state stays in the L1 cache."""

ORIGIN, DIRECTION, RADIUS, TRANSMITTANCE, POSITION, STD, OPACITY, DEPTH, MIN_WEIGHT, COLOR_WEIGHT, COLOR, ROWS = (
    0, 3, 6, 7, 8, 11, 12, 13, 14, 15, 16, 19,
)  # fmt: skip
"""Rows: origin (3) and direction (3) in half extents, radius, transmittance, a sample's position (3) and standard
deviation; then sums over the ray: opacity, depth, minimum weight to be shaded, shaded weight, and color (3)."""

_ZERO, _ONE, _TWO, _HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
_MIN_TRANSMITTANCE, _INFINITY, _TINY = np.float32(MIN_TRANSMITTANCE), np.float32(np.inf), np.float32(1e-9)


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
