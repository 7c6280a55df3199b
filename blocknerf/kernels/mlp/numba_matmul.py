"""Register-blocked products of small matrices for Numba.

LLVM vectorizes loops but does not block them for registers, which a fast matrix product needs: eight rows by two
vectors are summed at a time, so each number loaded is used in several multiplications. One kernel computes all three
products of a layer (outputs, input gradients, weight gradients), because the left matrix may have any two strides.
"""

from typing import no_type_check

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WIDE = bool(binding.get_host_cpu_features().get("avx512f", False))

LANES = 16 if _WIDE else 8
"""Numbers per vector. Matrix widths are padded to a multiple of it."""

ROWS = 8 if _WIDE else 4
"""Rows summed at a time: with two vectors each, they fill half the registers of AVX-512 or AVX2."""


@njit
@no_type_check
def matmul(a, a_start, a_row, a_step, b, b_start, d, d_start, d_row, c, c_start, rows, columns, depth):
    """Compute C = A B + D. `rows` and `columns` are multiples of ROWS and LANES; B and C have `columns` columns.

    Element (r, k) of A is `a[a_start + r * a_row + k * a_step]`. D has row stride `d_row`; zero repeats one row.
    """
    for row in range(0, rows, ROWS):
        left, addend, target = a_start + row * a_row, d_start + row * d_row, c_start + row * columns
        for at in range(0, columns - LANES, 2 * LANES):
            _matmul_block(
                a, left, a_row, a_step, b, b_start + at, columns, d, addend + at, d_row, c, target + at, depth, (0, 0)
            )
        if columns % (2 * LANES):
            at = columns - LANES
            _matmul_block(
                a, left, a_row, a_step, b, b_start + at, columns, d, addend + at, d_row, c, target + at, depth, (0,)
            )


@intrinsic
@no_type_check
def _matmul_block(
    typing_context, a, a_start, a_row, a_step, b, b_start, b_row, d, d_start, d_row, c, c_start, depth, vectors
):
    """Compute a block of the product: ROWS rows by `len(vectors)` vectors."""
    signature = types.void(a, a_start, a_row, a_step, b, b_start, b_row, d, d_start, d_row, c, c_start, depth, vectors)

    def generate(context, builder, signature, values):
        _, a_start, a_row, a_step, _, b_start, b_row, _, d_start, d_row, _, c_start, depth, _ = values
        count = len(vectors)
        data = [context.make_array(signature.args[i])(context, builder, values[i]).data for i in (0, 4, 7, 10)]
        block = [(row, vector) for row in range(ROWS) for vector in range(count)]
        targets, sums = {}, {}
        for row, vector in block:
            offset = builder.add(c_start, builder.mul(_number(row), b_row))
            targets[row, vector] = _address(builder, data[3], offset, vector)
            offset = builder.add(d_start, builder.mul(_number(row), d_row))
            start = builder.load(_address(builder, data[2], offset, vector), align=4)
            sums[row, vector] = cgutils.alloca_once_value(builder, start)
        with cgutils.for_range(builder, depth) as loop:
            offset = builder.add(b_start, builder.mul(loop.index, b_row))
            right = [builder.load(_address(builder, data[1], offset, v), align=4) for v in range(count)]
            left_start = builder.add(a_start, builder.mul(loop.index, a_step))
            for row in range(ROWS):
                offset = builder.add(left_start, builder.mul(_number(row), a_row))
                left = _splat(builder, builder.load(builder.gep(data[0], [offset])))
                for vector, values_right in enumerate(right):
                    term = builder.fmul(left, values_right, flags=("contract",))
                    total = builder.fadd(builder.load(sums[row, vector]), term, flags=("contract",))
                    builder.store(total, sums[row, vector])
        for key in block:
            builder.store(builder.load(sums[key]), targets[key], align=4)
        return context.get_dummy_value()

    return signature, generate


@no_type_check
def _number(value):
    return ir.Constant(ir.IntType(64), value)


@no_type_check
def _address(builder, data, offset, vector):
    address = builder.gep(data, [builder.add(offset, _number(vector * LANES))])
    return builder.bitcast(address, ir.VectorType(ir.FloatType(), LANES).as_pointer())


@no_type_check
def _splat(builder, scalar):
    vector = ir.VectorType(ir.FloatType(), LANES)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), lanes)
