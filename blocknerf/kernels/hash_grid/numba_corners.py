"""The eight corners of a cell for Numba: their indices and weights, and vector access to their features.

LLVM does not turn the short loop over an entry's features into one vector instruction, and that loop takes most of the
time, so the intrinsics here do it explicitly. Their `width` is a tuple with one element per feature, so that its type
carries the count. Everything else is left to the loop vectorizer.
"""

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from blocknerf.numba_config import FASTMATH

CHUNK = 128
"""Samples per chunk: a constant, so that loops have no remainder, and small enough for the L1 cache."""

POINT, VARIANCE, FRACTION, WEIGHT, DOTS, ROWS = 0, 3, 4, 7, 15, 23
"""Rows of a chunk's float workspace: clamped point (3), variance, fraction (3), weights (8), dot products (8)."""

_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0.0), np.float32(1.0)
_TWO_PI = np.float32(2.0 * np.pi)
_PRIME_Y, _PRIME_Z = np.uint32(2654435761), np.uint32(805459861)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def load_chunk(points, footprints, first, count, floats):
    """Load a chunk of clamped points and footprints into the workspace. Lanes past `count` become the origin."""
    for lane in range(count):
        for axis in range(3):
            value = points[first + lane, axis]
            value = _ZERO if value < _ZERO else value
            floats[(POINT + axis) * CHUNK + lane] = _ONE if value > _ONE else value
        floats[VARIANCE * CHUNK + lane] = footprints[first + lane] ** 2 if footprints.size else _ZERO
    for lane in range(count, CHUNK):
        for row in range(POINT, VARIANCE + 1):
            floats[row * CHUNK + lane] = _ZERO


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def locate_corners(scales, level, floats, index):
    """Compute fractions, corner weights (including gain and anti-aliasing) and table indices of a chunk."""
    scale, gain, size, resolution, hashed = scales[0], scales[1], level[1], level[2], level[3]
    if hashed:
        _hashed_indices(scale, np.uint32(size - 1), floats, index)
    else:
        _dense_indices(scale, np.int32(size), np.int32(resolution), floats, index)
    _corner_weights(scale, gain, floats)


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _hashed_indices(scale, mask, floats, index):
    for lane in range(CHUNK):
        x, y, z = _locate_cell(scale, lane, floats)
        x0, x1 = np.uint32(x), np.uint32(x + np.int32(1))
        y0 = np.uint32(np.uint32(y) * _PRIME_Y)
        z0 = np.uint32(np.uint32(z) * _PRIME_Z)
        y1, z1 = np.uint32(y0 + _PRIME_Y), np.uint32(z0 + _PRIME_Z)
        index[0 * CHUNK + lane] = (x0 ^ y0 ^ z0) & mask
        index[1 * CHUNK + lane] = (x1 ^ y0 ^ z0) & mask
        index[2 * CHUNK + lane] = (x0 ^ y1 ^ z0) & mask
        index[3 * CHUNK + lane] = (x1 ^ y1 ^ z0) & mask
        index[4 * CHUNK + lane] = (x0 ^ y0 ^ z1) & mask
        index[5 * CHUNK + lane] = (x1 ^ y0 ^ z1) & mask
        index[6 * CHUNK + lane] = (x0 ^ y1 ^ z1) & mask
        index[7 * CHUNK + lane] = (x1 ^ y1 ^ z1) & mask


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _dense_indices(scale, size, resolution, floats, index):
    plane = np.int32(resolution * resolution)
    for lane in range(CHUNK):
        x, y, z = _locate_cell(scale, lane, floats)
        first = np.int32(x + np.int32(y * resolution) + np.int32(z * plane))
        for corner in range(8):
            step = np.int32((corner & 1) + ((corner >> 1) & 1) * resolution + (corner >> 2) * plane)
            entry = np.int32(first + step)
            # tiny-cuda-nn wraps around past the last grid point, at most once.
            index[corner * CHUNK + lane] = entry - size if entry >= size else entry


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _locate_cell(scale, lane, floats):
    """Return the cell of a lane, and store its fractions in the workspace. NaN yields cell 0 and a NaN fraction."""
    x = floats[POINT * CHUNK + lane] * scale + _HALF
    y = floats[(POINT + 1) * CHUNK + lane] * scale + _HALF
    z = floats[(POINT + 2) * CHUNK + lane] * scale + _HALF
    i = np.int32(x if x >= _ZERO else _ZERO)
    j = np.int32(y if y >= _ZERO else _ZERO)
    k = np.int32(z if z >= _ZERO else _ZERO)
    floats[FRACTION * CHUNK + lane] = x - np.float32(i)
    floats[(FRACTION + 1) * CHUNK + lane] = y - np.float32(j)
    floats[(FRACTION + 2) * CHUNK + lane] = z - np.float32(k)
    return i, j, k


@njit(fastmath=FASTMATH, error_model="numpy")
@no_type_check
def _corner_weights(scale, gain, floats):
    for lane in range(CHUNK):
        x1 = floats[FRACTION * CHUNK + lane]
        y1 = floats[(FRACTION + 1) * CHUNK + lane]
        z1 = floats[(FRACTION + 2) * CHUNK + lane]
        variance = _TWO_PI * floats[VARIANCE * CHUNK + lane] * scale * scale
        # `torch_impl.antialiasing`, as two square roots.
        level = gain / np.sqrt(np.sqrt(_ONE + variance * variance))
        x0, y0, z0 = _ONE - x1, _ONE - y1, (_ONE - z1) * level
        z1 = z1 * level
        a, b, c, d = y0 * z0, y1 * z0, y0 * z1, y1 * z1
        floats[(WEIGHT + 0) * CHUNK + lane] = x0 * a
        floats[(WEIGHT + 1) * CHUNK + lane] = x1 * a
        floats[(WEIGHT + 2) * CHUNK + lane] = x0 * b
        floats[(WEIGHT + 3) * CHUNK + lane] = x1 * b
        floats[(WEIGHT + 4) * CHUNK + lane] = x0 * c
        floats[(WEIGHT + 5) * CHUNK + lane] = x1 * c
        floats[(WEIGHT + 6) * CHUNK + lane] = x0 * d
        floats[(WEIGHT + 7) * CHUNK + lane] = x1 * d


@no_type_check
def _pointer(context, builder, array_type, array, offset):
    """Return the address of an element of a contiguous array."""
    view = context.make_array(array_type)(context, builder, array)
    return builder.gep(view.data, [offset])


@no_type_check
def _corner(context, builder, signature, values, corner):
    """Return an entry's address as a vector, and its weight in all vector lanes; arguments as in `interpolate`."""
    table, index, floats, lane, width = values[0], values[1], values[2], values[3], len(signature.args[4])
    vector = ir.VectorType(ir.FloatType(), width)
    row = builder.add(lane, ir.Constant(lane.type, corner * CHUNK))
    entry = builder.load(_pointer(context, builder, signature.args[1], index, row))
    offset = builder.mul(builder.zext(entry, ir.IntType(64)), ir.Constant(ir.IntType(64), width))
    address = _pointer(context, builder, signature.args[0], table, offset)
    row = builder.add(lane, ir.Constant(lane.type, (WEIGHT + corner) * CHUNK))
    weight = builder.load(_pointer(context, builder, signature.args[2], floats, row))
    return builder.bitcast(address, vector.as_pointer()), _splat(builder, weight, vector)


@no_type_check
def _splat(builder, scalar, vector):
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), lanes)


@no_type_check
def _multiply_add(builder, a, b, c):
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


@intrinsic
@no_type_check
def interpolate(typing_context, table, index, floats, lane, width, out, position):
    """Write the weighted sum of the eight entries of a lane to `out[position:position + width]`."""

    def generate(context, builder, signature, values):
        total = None
        for corner in range(8):
            address, weight = _corner(context, builder, signature, values, corner)
            entry = builder.load(address, align=4)
            total = builder.fmul(entry, weight) if total is None else _multiply_add(builder, entry, weight, total)
        target = _pointer(context, builder, signature.args[5], values[5], values[6])
        builder.store(total, builder.bitcast(target, total.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(table, index, floats, lane, width, out, position), generate


@intrinsic
@no_type_check
def scatter_add(typing_context, table, index, floats, lane, width, gradients, position):
    """Add `gradients[position:position + width]`, weighted, to the eight entries of a lane."""

    def generate(context, builder, signature, values):
        source = _pointer(context, builder, signature.args[5], values[5], values[6])
        vector = ir.VectorType(ir.FloatType(), len(signature.args[4]))
        gradient = builder.load(builder.bitcast(source, vector.as_pointer()), align=4)
        for corner in range(8):
            address, weight = _corner(context, builder, signature, values, corner)
            entry = builder.load(address, align=4)
            builder.store(_multiply_add(builder, gradient, weight, entry), address, align=4)
        return context.get_dummy_value()

    return types.void(table, index, floats, lane, width, gradients, position), generate


@intrinsic
@no_type_check
def copy_features(typing_context, source, position, target, target_position, width):
    """Copy `source[position:position + width]` to `target[target_position:target_position + width]`."""

    def generate(context, builder, signature, values):
        vector = ir.VectorType(ir.FloatType(), len(signature.args[4])).as_pointer()
        start = _pointer(context, builder, signature.args[0], values[0], values[1])
        end = _pointer(context, builder, signature.args[2], values[2], values[3])
        entry = builder.load(builder.bitcast(start, vector), align=4)
        builder.store(entry, builder.bitcast(end, vector), align=4)
        return context.get_dummy_value()

    return types.void(source, position, target, target_position, width), generate


@intrinsic
@no_type_check
def dot_corners(typing_context, table, index, floats, lane, width, gradients, position):
    """Store the dot products of `gradients[position:position + width]` with the eight entries of a lane."""

    def generate(context, builder, signature, values):
        source = _pointer(context, builder, signature.args[5], values[5], values[6])
        vector = ir.VectorType(ir.FloatType(), len(signature.args[4]))
        gradient = builder.load(builder.bitcast(source, vector.as_pointer()), align=4)
        for corner in range(8):
            address, _ = _corner(context, builder, signature, values, corner)
            products = builder.fmul(builder.load(address, align=4), gradient)
            total = builder.extract_element(products, ir.Constant(ir.IntType(32), 0))
            for feature in range(1, vector.count):
                total = builder.fadd(
                    total, builder.extract_element(products, ir.Constant(ir.IntType(32), feature)), flags=("reassoc",)
                )
            row = builder.add(values[3], ir.Constant(values[3].type, (DOTS + corner) * CHUNK))
            builder.store(total, _pointer(context, builder, signature.args[2], values[2], row))
        return context.get_dummy_value()

    return types.void(table, index, floats, lane, width, gradients, position), generate
