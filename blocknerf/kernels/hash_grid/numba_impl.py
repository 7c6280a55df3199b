"""The hash grid in Numba for the processor, float32.

Forward: tiles of samples in parallel, and in a tile level after level, so that one level's table stays in the L2 cache.
Backward to the table: levels in parallel, each owned by one thread, so there are no atomics and sums have one order.
Points and gradients are first put into the order in which a level reads them: a level takes only a part of each row.
"""

from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.hash_grid.numba_corners import (
    CHUNK,
    DOT,
    FRACTION,
    ROWS,
    SPREAD,
    interpolate,
    load,
    locate,
    move,
    project,
    scatter,
)
from blocknerf.kernels.hash_grid.spec import GridSpec
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH

TILE = 8
"""Chunks of a tile: 1,024 samples."""
FLOATS, INDEXES = TILE * ROWS * CHUNK, 8 * CHUNK
"""Numbers of scratch that a tile takes: what corners are found from, and where they lie."""

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_TWO_PI = np.float32(2.0 * np.pi)


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    gains: tuple[float, ...],
) -> Float[Tensor, "points encoded"]:
    """What `reference.encode` gives, by compiled loops."""
    footprints = points.new_empty(0) if footprints is None else footprints.contiguous()
    return _Encode.apply(points.contiguous(), table.contiguous(), footprints, spec, gains)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, table: Tensor, footprints: Tensor, spec: GridSpec, gains: tuple[float, ...]
    ) -> Tensor:
        apply_numba_threads()
        out = points.new_empty(len(points), spec.output_dim)
        arrays = [tensor.detach().numpy() for tensor in (points, table, footprints)]
        _forward(*arrays, *level_facts(spec, gains), out.numpy(), (0,) * spec.features_per_level)
        ctx.save_for_backward(points, table, footprints)
        ctx.spec, ctx.gains = spec, gains
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, table, footprints = ctx.saved_tensors
        apply_numba_threads()
        planes = np.empty((ctx.spec.num_levels, len(points) * ctx.spec.features_per_level), np.float32)
        _arrange(gradients.contiguous().numpy(), planes, (0,) * ctx.spec.features_per_level)
        needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        to_points, to_table = backward(points, table, footprints, ctx.spec, ctx.gains, planes, needs)
        return to_points, to_table, None, None, None


def backward(
    points: Tensor, table: Tensor, footprints: Tensor, spec: GridSpec, gains: tuple[float, ...], planes: np.ndarray,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of points and table, where each is needed, from those of features, which lie in planes, one a level."""
    threads = apply_numba_threads()
    (scales, levels), width = level_facts(spec, gains), (0,) * spec.features_per_level
    place, spread = points.detach().numpy(), footprints.detach().numpy()
    to_points = to_table = None
    if needs[0]:
        to_points = torch.empty_like(points)
        _to_points(place, table.detach().numpy(), spread, planes, scales, levels, to_points.numpy(), width)
    if needs[1]:
        to_table = torch.zeros_like(table)
        _to_table(place, spread, planes, scales, levels, _shares(levels, threads), to_table.numpy(), width)
    return to_points, to_table


@cache
def level_facts(spec: GridSpec, gains: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and gain, and first entry, size, resolution and hashing of the levels that are on, with their number."""
    on = [level for level in range(spec.num_levels) if gains[level] > 0.0]
    floats = np.array([(spec.scales[level], gains[level]) for level in on], np.float32).reshape(-1, 2)
    sizes = np.diff(spec.offsets)
    whole = [(spec.offsets[i], sizes[i], spec.resolutions[i], spec.hashed[i], i, spec.num_levels) for i in on]
    return floats, np.array(whole, np.int64).reshape(-1, 6)


def _shares(facts: np.ndarray, threads: int) -> np.ndarray:
    """Which levels each thread owns, -1 for none: dealt out back and forth, because finer ones cost more."""
    rows = -(-len(facts) // threads)
    deal = np.full((rows, threads), -1, np.int64)
    deal.reshape(-1)[: len(facts)] = np.arange(len(facts))[::-1]
    deal[1::2] = deal[1::2, ::-1].copy()
    return np.ascontiguousarray(deal.T)


# The bodies of parallel loops are functions of their own, since Numba compiles what stands in such a loop several times
# over, and are given signed indexes: the loop has unsigned ones within, and they would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(points, table, footprints, scales, levels, out, width):
    for tile in prange((points.shape[0] + TILE * CHUNK - 1) // (TILE * CHUNK)):
        floats, index = np.empty(FLOATS, np.float32), np.empty(INDEXES, np.int32)
        encode_tile(np.int64(tile) * TILE * CHUNK, points, table, footprints, scales, levels, out, width, floats, index)


@njit(parallel=True, cache=True)
@no_type_check
def _arrange(gradients, planes, width):
    for chunk in prange((gradients.shape[0] + CHUNK - 1) // CHUNK):
        start = np.int64(chunk) * CHUNK
        arrange(gradients.reshape(-1), start * gradients.shape[1], gradients.shape[1], start, planes, width, CHUNK)


@njit(parallel=True, cache=True)
@no_type_check
def _to_table(points, footprints, planes, scales, levels, shares, out, width):
    count = points.shape[0]
    cells = np.empty(((count + CHUNK - 1) // CHUNK, FRACTION * CHUNK), np.float32)
    for chunk in prange(cells.shape[0]):
        start = np.int64(chunk) * CHUNK
        load(points, footprints, start, min(CHUNK, count - start), cells[chunk])
    for thread in prange(shares.shape[0]):
        for level in shares[thread]:
            if level >= 0:
                _level_to_table(cells, planes[levels[level, 4]], scales[level], levels[level], out, width)


@njit(parallel=True, cache=True)
@no_type_check
def _to_points(points, table, footprints, planes, scales, levels, out, width):
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        _chunk_to_points(np.int64(chunk) * CHUNK, points, table, footprints, planes, scales, levels, out, width)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def encode_tile(first, points, table, footprints, scales, levels, out, width, floats, index):
    """Encode up to TILE chunks of points from `first` on; rows of `out` may be wider, zero in the rest.

    `floats` and `index` are scratch of FLOATS and INDEXES numbers.
    """
    count, flat, target = points.shape[0], table.reshape(-1), out.reshape(-1)
    row, features = out.shape[1], len(width)
    chunks = min(TILE, (count - first + CHUNK - 1) // CHUNK)
    if levels.shape[0] * features < row:
        for place in range(first * row, min(first + TILE * CHUNK, count) * row):
            target[place] = _ZERO
    for chunk in range(chunks):
        start = first + chunk * CHUNK
        load(points, footprints, start, min(CHUNK, count - start), floats[chunk * ROWS * CHUNK :])
    for level in range(levels.shape[0]):
        entries = flat[levels[level, 0] * features :]
        for chunk in range(chunks):
            start = first + chunk * CHUNK
            scratch = floats[chunk * ROWS * CHUNK :]
            locate(scales[level], levels[level], scratch, index)
            for lane in range(min(CHUNK, count - start)):
                position = (start + lane) * row + levels[level, 4] * features
                interpolate(entries, index, scratch, lane, width, target, position)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def arrange(gradients, place, row, first, planes, width, most):
    """Sort by level the gradients of up to `most` samples from `first` on, whose rows begin at `place`."""
    features, target = len(width), planes.reshape(-1)
    count = min(most, planes.shape[1] // features - first)
    for level in range(planes.shape[0]):
        start = level * planes.shape[1] + first * features
        for lane in range(count):
            move(gradients, place + lane * row + level * features, target, start + lane * features, width)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _level_to_table(cells, gradients, scales, level, out, width):
    features = len(width)
    entries = out.reshape(-1)[level[0] * features :]
    floats, index = np.empty(ROWS * CHUNK, np.float32), np.empty(8 * CHUNK, np.int32)
    for chunk in range(cells.shape[0]):
        points, first = cells[chunk], chunk * CHUNK * features
        for place in range(FRACTION * CHUNK):
            floats[place] = points[place]
        locate(scales, level, floats, index)
        for lane in range(min(CHUNK, gradients.shape[0] // features - chunk * CHUNK)):
            scatter(entries, index, floats, lane, width, gradients, first + lane * features)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _chunk_to_points(start, points, table, footprints, planes, scales, levels, out, width):
    count, flat, features = points.shape[0], table.reshape(-1), len(width)
    floats, index = np.empty(ROWS * CHUNK, np.float32), np.empty(8 * CHUNK, np.int32)
    totals = np.zeros(3 * CHUNK, np.float32)
    lanes = min(CHUNK, count - start)
    load(points, footprints, start, lanes, floats)
    for level in range(levels.shape[0]):
        entries = flat[levels[level, 0] * features :]
        locate(scales[level], levels[level], floats, index)
        gradients = planes[levels[level, 4]]
        for lane in range(lanes):
            project(entries, index, floats, lane, width, gradients, (start + lane) * features)
        _add_slopes(scales[level], floats, totals)
    for lane in range(lanes):
        for axis in range(3):
            value = points[start + lane, axis]
            # The gradient of torch.clamp: one on the cube and its faces, zero outside.
            outside = value < _ZERO or value > _ONE
            out[start + lane, axis] = _ZERO if outside else totals[axis * CHUNK + lane]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _add_slopes(scales, floats, totals):
    """Add the derivative of the weighted sum of a chunk's eight products along the three axes."""
    scale, gain = scales[0], scales[1]
    for lane in range(CHUNK):
        x, y = floats[FRACTION * CHUNK + lane], floats[(FRACTION + 1) * CHUNK + lane]
        z = floats[(FRACTION + 2) * CHUNK + lane]
        a, b = floats[DOT * CHUNK + lane], floats[(DOT + 1) * CHUNK + lane]
        c, d = floats[(DOT + 2) * CHUNK + lane], floats[(DOT + 3) * CHUNK + lane]
        e, f = floats[(DOT + 4) * CHUNK + lane], floats[(DOT + 5) * CHUNK + lane]
        g, h = floats[(DOT + 6) * CHUNK + lane], floats[(DOT + 7) * CHUNK + lane]
        spread = _TWO_PI * floats[SPREAD * CHUNK + lane] * scale * scale
        slope = scale * gain / np.sqrt(np.sqrt(_ONE + spread * spread))
        u, v = _ONE - y, _ONE - z
        totals[lane] += slope * (v * (u * (b - a) + y * (d - c)) + z * (u * (f - e) + y * (h - g)))
        a, b, e, f = a + x * (b - a), c + x * (d - c), e + x * (f - e), g + x * (h - g)
        totals[CHUNK + lane] += slope * (v * (b - a) + z * (f - e))
        totals[2 * CHUNK + lane] += slope * ((e + y * (f - e)) - (a + y * (b - a)))
