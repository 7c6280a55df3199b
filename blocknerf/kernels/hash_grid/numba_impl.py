"""Numba (CPU, float32) hash grid.

Forward: tiles of samples in parallel, level by level within a tile, so that a level's table stays in the L2 cache.
Backward to the table: levels in parallel, each owned by one thread, so there are no atomics and the order of sums is
fixed. Gradients are first transposed to one plane per level, because a level reads only a part of each row.
"""

from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float16
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.hash_grid.numba_corners import (
    CHUNK,
    DOTS,
    FRACTION,
    ROWS,
    VARIANCE,
    copy_features,
    dot_corners,
    interpolate,
    load_chunk,
    locate_corners,
    scatter_add,
)
from blocknerf.kernels.hash_grid.spec import GridSpec, level_weights
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH

TILE = 8
"""Chunks per tile: 1,024 samples."""
NUM_FLOATS, NUM_INDICES = TILE * ROWS * CHUNK, 8 * CHUNK
"""Workspace of a tile: floats of `numba_corners`, and table indices of corners."""

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_TWO_PI = np.float32(2.0 * np.pi)


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    active_levels: float | Tensor | None,
    half: Float16[Tensor, "entries features"] | None,
) -> Float[Tensor, "points encoded"]:
    """Numba version of `torch_impl.encode`."""
    footprints = points.new_empty(0) if footprints is None else footprints.contiguous()
    return _Encode.apply(
        points.contiguous(), table.contiguous(), footprints, spec, level_weights(spec.num_levels, active_levels)
    )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, table: Tensor, footprints: Tensor, spec: GridSpec, gains: tuple[float, ...]
    ) -> Tensor:
        apply_numba_threads()
        out = points.new_empty(len(points), spec.output_dim)
        arrays = [tensor.detach().numpy() for tensor in (points, table, footprints)]
        _forward(*arrays, *level_params(spec, gains), out.numpy(), (0,) * spec.features_per_level)
        ctx.save_for_backward(points, table, footprints)
        ctx.spec, ctx.gains = spec, gains
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        points, table, footprints = ctx.saved_tensors
        apply_numba_threads()
        planes = np.empty((ctx.spec.num_levels, len(points) * ctx.spec.features_per_level), np.float32)
        _transpose_to_levels(gradients.contiguous().numpy(), planes, (0,) * ctx.spec.features_per_level)
        needs = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_points, grad_table = backward(points, table, footprints, ctx.spec, ctx.gains, planes, needs)
        return grad_points, grad_table, None, None, None


def backward(
    points: Tensor, table: Tensor, footprints: Tensor, spec: GridSpec, gains: tuple[float, ...], planes: np.ndarray,
    needs: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """Return gradients of points and table, if needed, from feature gradients in one plane per level."""
    threads = apply_numba_threads()
    (scales, levels), width = level_params(spec, gains), (0,) * spec.features_per_level
    point_array, footprint_array = points.detach().numpy(), footprints.detach().numpy()
    grad_points = grad_table = None
    if needs[0]:
        grad_points = torch.empty_like(points)
        _points_backward(
            point_array, table.detach().numpy(), footprint_array, planes, scales, levels, grad_points.numpy(), width
        )
    if needs[1]:
        grad_table = torch.zeros_like(table)
        assignment = _assign_levels(levels, threads)
        _table_backward(point_array, footprint_array, planes, scales, levels, assignment, grad_table.numpy(), width)
    return grad_points, grad_table


@cache
def level_params(spec: GridSpec, gains: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return, for active levels: scale and gain; first entry, size, resolution, hashed, level index, level count."""
    active = [level for level in range(spec.num_levels) if gains[level] > 0.0]
    floats = np.array([(spec.scales[level], gains[level]) for level in active], np.float32).reshape(-1, 2)
    sizes = np.diff(spec.offsets)
    level_rows = [(spec.offsets[i], sizes[i], spec.resolutions[i], spec.hashed[i], i, spec.num_levels) for i in active]
    return floats, np.array(level_rows, np.int64).reshape(-1, 6)


def _assign_levels(levels: np.ndarray, threads: int) -> np.ndarray:
    """Return the levels of each thread, -1 for none. They are dealt back and forth, because finer levels cost more."""
    rows = -(-len(levels) // threads)
    assignment = np.full((rows, threads), -1, np.int64)
    assignment.reshape(-1)[: len(levels)] = np.arange(len(levels))[::-1]
    assignment[1::2] = assignment[1::2, ::-1].copy()
    return np.ascontiguousarray(assignment.T)


# Bodies of parallel loops are separate functions, because Numba compiles such a body several times. They take signed
# indices: the loop's own are unsigned, and the functions would be compiled for both.


@njit(parallel=True, cache=True)
@no_type_check
def _forward(points, table, footprints, scales, levels, out, width):
    for tile in prange((points.shape[0] + TILE * CHUNK - 1) // (TILE * CHUNK)):
        floats, index = np.empty(NUM_FLOATS, np.float32), np.empty(NUM_INDICES, np.int32)
        encode_tile(np.int64(tile) * TILE * CHUNK, points, table, footprints, scales, levels, out, width, floats, index)


@njit(parallel=True, cache=True)
@no_type_check
def _transpose_to_levels(gradients, planes, width):
    for chunk in prange((gradients.shape[0] + CHUNK - 1) // CHUNK):
        start = np.int64(chunk) * CHUNK
        transpose_to_levels(
            gradients.reshape(-1), start * gradients.shape[1], gradients.shape[1], start, planes, width, CHUNK
        )


@njit(parallel=True, cache=True)
@no_type_check
def _table_backward(points, footprints, planes, scales, levels, assignment, out, width):
    count = points.shape[0]
    cells = np.empty(((count + CHUNK - 1) // CHUNK, FRACTION * CHUNK), np.float32)
    for chunk in prange(cells.shape[0]):
        start = np.int64(chunk) * CHUNK
        load_chunk(points, footprints, start, min(CHUNK, count - start), cells[chunk])
    for thread in prange(assignment.shape[0]):
        for level in assignment[thread]:
            if level >= 0:
                _level_table_backward(cells, planes[levels[level, 4]], scales[level], levels[level], out, width)


@njit(parallel=True, cache=True)
@no_type_check
def _points_backward(points, table, footprints, planes, scales, levels, out, width):
    for chunk in prange((points.shape[0] + CHUNK - 1) // CHUNK):
        _chunk_points_backward(np.int64(chunk) * CHUNK, points, table, footprints, planes, scales, levels, out, width)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def encode_tile(first, points, table, footprints, scales, levels, out, width, floats, index):
    """Encode up to TILE chunks of points from `first` on. Rows of `out` may be wider; the rest becomes zero.

    `floats` and `index` are workspace of NUM_FLOATS and NUM_INDICES numbers.
    """
    count, flat, target = points.shape[0], table.reshape(-1), out.reshape(-1)
    row, features = out.shape[1], len(width)
    chunks = min(TILE, (count - first + CHUNK - 1) // CHUNK)
    if levels.shape[0] * features < row:
        for element in range(first * row, min(first + TILE * CHUNK, count) * row):
            target[element] = _ZERO
    for chunk in range(chunks):
        start = first + chunk * CHUNK
        load_chunk(points, footprints, start, min(CHUNK, count - start), floats[chunk * ROWS * CHUNK :])
    for level in range(levels.shape[0]):
        entries = flat[levels[level, 0] * features :]
        for chunk in range(chunks):
            start = first + chunk * CHUNK
            workspace = floats[chunk * ROWS * CHUNK :]
            locate_corners(scales[level], levels[level], workspace, index)
            for lane in range(min(CHUNK, count - start)):
                position = (start + lane) * row + levels[level, 4] * features
                interpolate(entries, index, workspace, lane, width, target, position)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def transpose_to_levels(gradients, position, row, first, planes, width, max_count):
    """Transpose up to `max_count` gradients from sample `first` (at `position`) on to level planes."""
    features, target = len(width), planes.reshape(-1)
    count = min(max_count, planes.shape[1] // features - first)
    for level in range(planes.shape[0]):
        start = level * planes.shape[1] + first * features
        for lane in range(count):
            copy_features(gradients, position + lane * row + level * features, target, start + lane * features, width)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _level_table_backward(cells, gradients, scales, level, out, width):
    features = len(width)
    entries = out.reshape(-1)[level[0] * features :]
    floats, index = np.empty(ROWS * CHUNK, np.float32), np.empty(8 * CHUNK, np.int32)
    for chunk in range(cells.shape[0]):
        points, first = cells[chunk], chunk * CHUNK * features
        for position in range(FRACTION * CHUNK):
            floats[position] = points[position]
        locate_corners(scales, level, floats, index)
        for lane in range(min(CHUNK, gradients.shape[0] // features - chunk * CHUNK)):
            scatter_add(entries, index, floats, lane, width, gradients, first + lane * features)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _chunk_points_backward(start, points, table, footprints, planes, scales, levels, out, width):
    count, flat, features = points.shape[0], table.reshape(-1), len(width)
    floats, index = np.empty(ROWS * CHUNK, np.float32), np.empty(8 * CHUNK, np.int32)
    totals = np.zeros(3 * CHUNK, np.float32)
    num_lanes = min(CHUNK, count - start)
    load_chunk(points, footprints, start, num_lanes, floats)
    for level in range(levels.shape[0]):
        entries = flat[levels[level, 0] * features :]
        locate_corners(scales[level], levels[level], floats, index)
        gradients = planes[levels[level, 4]]
        for lane in range(num_lanes):
            dot_corners(entries, index, floats, lane, width, gradients, (start + lane) * features)
        _accumulate_grad_points(scales[level], floats, totals)
    for lane in range(num_lanes):
        for axis in range(3):
            value = points[start + lane, axis]
            # The gradient of torch.clamp: one on the cube and its faces, zero outside.
            outside = value < _ZERO or value > _ONE
            out[start + lane, axis] = _ZERO if outside else totals[axis * CHUNK + lane]


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _accumulate_grad_points(scales, floats, totals):
    """Add the derivatives along the three axes of the weighted sum of a chunk's eight dot products."""
    scale, gain = scales[0], scales[1]
    for lane in range(CHUNK):
        x, y = floats[FRACTION * CHUNK + lane], floats[(FRACTION + 1) * CHUNK + lane]
        z = floats[(FRACTION + 2) * CHUNK + lane]
        a, b = floats[DOTS * CHUNK + lane], floats[(DOTS + 1) * CHUNK + lane]
        c, d = floats[(DOTS + 2) * CHUNK + lane], floats[(DOTS + 3) * CHUNK + lane]
        e, f = floats[(DOTS + 4) * CHUNK + lane], floats[(DOTS + 5) * CHUNK + lane]
        g, h = floats[(DOTS + 6) * CHUNK + lane], floats[(DOTS + 7) * CHUNK + lane]
        variance = _TWO_PI * floats[VARIANCE * CHUNK + lane] * scale * scale
        factor = scale * gain / np.sqrt(np.sqrt(_ONE + variance * variance))
        u, v = _ONE - y, _ONE - z
        totals[lane] += factor * (v * (u * (b - a) + y * (d - c)) + z * (u * (f - e) + y * (h - g)))
        a, b, e, f = a + x * (b - a), c + x * (d - c), e + x * (f - e), g + x * (h - g)
        totals[CHUNK + lane] += factor * (v * (b - a) + z * (f - e))
        totals[2 * CHUNK + lane] += factor * ((e + y * (f - e)) - (a + y * (b - a)))
