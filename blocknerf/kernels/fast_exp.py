"""The exponential for Numba, as arithmetic that LLVM makes vector instructions of: a call to libm it cannot."""

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_PER_LOG2, _LOG2, _LOG2_REST = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST, _MOST = np.float32(-87.3), np.float32(88.3)
_A, _B, _C = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_D, _E, _HALF = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ONE, _BIAS, _SHIFT = np.float32(1.0), np.int32(127), np.int32(23)


@njit(fastmath={"contract", "arcp"}, inline="always")
@no_type_check
def exp(x):
    """e to the power of a float32, to 3e-7 of its value; clamped where that would not be a normal number.

    A whole power of two times a polynomial for what is left, with the coefficients of Cephes' `expf`.
    """
    x = _LEAST if x < _LEAST else x
    x = _MOST if x > _MOST else x
    whole = np.floor(x * _PER_LOG2 + _HALF)
    rest = (x - whole * _LOG2) - whole * _LOG2_REST
    series = ((((_A * rest + _B) * rest + _C) * rest + _D) * rest + _E) * rest + _HALF
    return (series * rest * rest + rest + _ONE) * _from_bits((np.int32(whole) + _BIAS) << _SHIFT)


@intrinsic
@no_type_check
def _from_bits(typing_context, number):
    def generate(context, builder, signature, values):
        return builder.bitcast(builder.trunc(values[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), generate
