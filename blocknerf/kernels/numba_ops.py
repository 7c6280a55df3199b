"""Arithmetic and aligned memory shared by the Numba kernels."""

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

CACHE_LINE = 16
"""Floats per cache line. Buffers start on one; otherwise every other vector load would touch two lines."""

_INV_LOG2, _LOG2, _LOG2_REST = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
_MIN_ARGUMENT, _MAX_ARGUMENT = np.float32(-87.3), np.float32(88.3)
_A, _B, _C = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_D, _E, _HALF = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ONE, _BIAS, _SHIFT = np.float32(1.0), np.int32(127), np.int32(23)


@njit(fastmath={"contract", "arcp"}, inline="always")
@no_type_check
def exp_approx(x):
    """Return exp(x) of a float32 with relative error 3e-7, clamped to normal numbers.

    LLVM can vectorize it, unlike a call to libm: it is a power of two times a polynomial of the remainder, with the
    coefficients of Cephes' `expf`.
    """
    x = _MIN_ARGUMENT if x < _MIN_ARGUMENT else x
    x = _MAX_ARGUMENT if x > _MAX_ARGUMENT else x
    exponent = np.floor(x * _INV_LOG2 + _HALF)
    remainder = (x - exponent * _LOG2) - exponent * _LOG2_REST
    series = ((((_A * remainder + _B) * remainder + _C) * remainder + _D) * remainder + _E) * remainder + _HALF
    return (series * remainder * remainder + remainder + _ONE) * _from_bits((np.int32(exponent) + _BIAS) << _SHIFT)


@intrinsic
@no_type_check
def _from_bits(typing_context, number):
    def generate(context, builder, signature, values):
        return builder.bitcast(builder.trunc(values[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), generate


def aligned_rows(rows: int, width: int) -> np.ndarray:
    """Return uninitialized rows of floats; the first one starts on a cache line."""
    floats = np.empty(rows * width + CACHE_LINE, np.float32)
    first = (-(floats.ctypes.data // floats.itemsize)) % CACHE_LINE
    return floats[first : first + rows * width].reshape(rows, width)


@njit
@no_type_check
def aligned_empty(count):
    """Return `count` uninitialized floats that start on a cache line, inside a compiled function."""
    buffer = np.empty(count + CACHE_LINE, np.float32)
    first = (-(buffer.ctypes.data // 4)) % CACHE_LINE
    return buffer[first : first + count]
