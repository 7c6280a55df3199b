"""What is done to all rays of a tile at once, for Numba: a loop over rays is a loop over the lanes of vectors.

Facts of the rays are rows of one flat scratch, RAYS long each. What has a value a sample is flat too, a row of rays for
each sample; the place of a sample there is its slot.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.contraction.numba_impl import shrinkage
from blocknerf.kernels.fast_exp import exp
from blocknerf.kernels.marching.params import STEP
from blocknerf.numba_config import FASTMATH

RAYS = 128
"""Rays of a tile: few enough that what is known of them stays in the L1 cache."""

ORIGIN, DIRECTION, RADIUS, LIGHT, CUBE, SPREAD, OPACITY, DEPTH, LEAST, SEEN, COLOR, ROWS = (
    0, 3, 6, 7, 8, 11, 12, 13, 14, 15, 16, 19,
)  # fmt: skip
"""Rows: start (3) and direction (3) in half extents, radius, light still passing, a sample's place (3) and spread, then
what the ray adds up to: opacity, depth, the least weight that gets a color, weight that has one, and color (3)."""

_ZERO, _ONE, _TWO, _HALF = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(0.5)
_STEP, _NEVER, _TINY = np.float32(STEP), np.float32(np.inf), np.float32(1e-9)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def start_rays(first, origins, directions, radii, place, lanes):
    """Put rays from `first` on into the scratch, relative to the block; lanes without a ray see no light."""
    count, scale = min(RAYS, radii.shape[0] - first), _ONE / place[3]
    for row in range(ROWS):
        for lane in range(RAYS):
            lanes[row * RAYS + lane] = _ZERO
    for lane in range(count):
        for axis in range(3):
            lanes[(ORIGIN + axis) * RAYS + lane] = (origins[first + lane, axis] - place[axis]) * scale
            lanes[(DIRECTION + axis) * RAYS + lane] = directions[first + lane, axis] * scale
        lanes[RADIUS * RAYS + lane] = radii[first + lane] * _HALF * scale
        lanes[LIGHT * RAYS + lane] = _ONE


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def spread_edges(edges, place, distances):
    """Distances of normalized positions: even up to the block's end, beyond even in their inverse."""
    size, near, extent = place[3], place[4], place[5]
    for slot in range(edges.shape[0]):
        squashed = near + extent * edges[slot]
        rest = _ONE - squashed
        rest = _TINY if rest < _TINY else rest
        distances[slot] = size * (_TWO * squashed if squashed < _HALF else _HALF / rest)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def gather(sample, cells, side, scratch, count, first):
    """Append a sample of each ray that may count; gives the new number of points, whose slots begin at `first`."""
    lanes, cell, points, spreads = scratch.lanes, scratch.cell, scratch.points, scratch.spreads
    slots, distances = scratch.slots[first:], scratch.distances
    _place(distances[sample * RAYS : (sample + 1) * RAYS], distances[(sample + 1) * RAYS :], side, lanes, cell)
    for lane in range(RAYS):
        if lanes[LIGHT * RAYS + lane] >= _STEP and cells[cell[lane]] != 0:
            points[count, 0] = lanes[CUBE * RAYS + lane]
            points[count, 1] = lanes[(CUBE + 1) * RAYS + lane]
            points[count, 2] = lanes[(CUBE + 2) * RAYS + lane]
            spreads[count] = lanes[SPREAD * RAYS + lane]
            slots[count] = sample * RAYS + lane
            count += 1
    return count


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _place(starts, ends, side, lanes, cell):
    """The places of a sample of each ray in the unit cube, and the cells they lie in."""
    last, size = np.int32(side - 1), np.float32(side)
    for lane in range(RAYS):
        middle = _HALF * (starts[lane] + ends[lane])
        x = lanes[ORIGIN * RAYS + lane] + middle * lanes[DIRECTION * RAYS + lane]
        y = lanes[(ORIGIN + 1) * RAYS + lane] + middle * lanes[(DIRECTION + 1) * RAYS + lane]
        z = lanes[(ORIGIN + 2) * RAYS + lane] + middle * lanes[(DIRECTION + 2) * RAYS + lane]
        shrink = shrinkage(x, y, z)
        x, y, z = x * shrink + _HALF, y * shrink + _HALF, z * shrink + _HALF
        lanes[CUBE * RAYS + lane] = x
        lanes[(CUBE + 1) * RAYS + lane] = y
        lanes[(CUBE + 2) * RAYS + lane] = z
        lanes[SPREAD * RAYS + lane] = middle * lanes[RADIUS * RAYS + lane] * shrink
        i = _cell(x * size, last)
        j = _cell(y * size, last)
        k = _cell(z * size, last)
        cell[lane] = np.int32(np.int32(i * np.int32(side)) + j) * np.int32(side) + k


@njit(fastmath=FASTMATH, error_model="numpy", inline="always")
@no_type_check
def _cell(position, last):
    """The cell of a coordinate; NaN gives the first."""
    number = np.int32(position if position >= _ZERO else _ZERO)
    return last if number > last else number


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def absorb(sample, thickness, lanes, weights):
    """Turn a sample's thickness into its weight; the first that too little light reaches takes all of it."""
    thick, weight = thickness[sample * RAYS : (sample + 1) * RAYS], weights[sample * RAYS : (sample + 1) * RAYS]
    for lane in range(RAYS):
        light = lanes[LIGHT * RAYS + lane]
        left = light * exp(-thick[lane])
        left = _ZERO if light < _STEP else left
        weight[lane] = light - left
        lanes[LIGHT * RAYS + lane] = left


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def add_up(samples, weights, distances, lanes):
    """The opacity and depth of each ray, and the least weight that a sample of it needs to be given a color."""
    for sample in range(samples):
        weight = weights[sample * RAYS : (sample + 1) * RAYS]
        start, end = distances[sample * RAYS : (sample + 1) * RAYS], distances[(sample + 1) * RAYS :]
        for lane in range(RAYS):
            lanes[OPACITY * RAYS + lane] += weight[lane]
            lanes[DEPTH * RAYS + lane] += weight[lane] * _HALF * (start[lane] + end[lane])
    for lane in range(RAYS):
        opacity = lanes[OPACITY * RAYS + lane]
        lanes[LEAST * RAYS + lane] = opacity * _STEP if opacity > _STEP else _NEVER


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def finish_rays(first, sky, place, lanes, color, depth, opacity):
    """Write the tile's results: samples without a color of their own show the mean of the others, the rest is sky."""
    for lane in range(min(RAYS, depth.shape[0] - first)):
        ray, full, seen = first + lane, lanes[OPACITY * RAYS + lane], lanes[SEEN * RAYS + lane]
        share = full / seen if seen > _ZERO else _ZERO
        clear = _ONE - full if seen > _ZERO else _ONE
        for channel in range(3):
            color[ray, channel] = share * lanes[(COLOR + channel) * RAYS + lane] + clear * sky[ray, channel]
        opacity[ray] = full
        depth[ray] = lanes[DEPTH * RAYS + lane] + max(_ONE - full, _ZERO) * place[6]
