"""Triton (GPU, float32) ray encoding: one kernel where PyTorch launches about eighty."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.ray_encoding.torch_impl import (
    DIRECTION_FEATURES,
    EXPOSURE_FEATURES,
    EXPOSURE_LEVELS,
    EXPOSURE_STOPS,
)
from blocknerf.kernels.triton_ops import BLOCK_SIZE, clamp_nan

_LEVELS, _STOPS = tl.constexpr(EXPOSURE_LEVELS), tl.constexpr(EXPOSURE_STOPS)
_DIRECTIONS = tl.constexpr(DIRECTION_FEATURES)


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"],
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
    reference_exposure: float,
) -> Float[Tensor, "rays row"]:
    """Triton version of `torch_impl.encode_ray_inputs`, one kernel, once differentiable in the codes only."""
    return _EncodeRayInputs.apply(
        directions.detach().contiguous(), code, exposure.detach().contiguous(), reference_exposure
    )


def encode_directions(directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 16"]:
    """Triton version of `torch_impl.encode_directions`, one kernel, without a gradient."""
    return _encode(directions.detach().contiguous(), None, None, 1.0)


class _EncodeRayInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, code: Tensor, exposure: Tensor, reference_exposure: float) -> Tensor:
        ctx.codes = code.shape[1]
        return _encode(directions, code.detach(), exposure, reference_exposure)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[None, Tensor, None, None]:
        return None, gradients[:, DIRECTION_FEATURES : DIRECTION_FEATURES + ctx.codes], None, None


def _encode(directions: Tensor, code: Any, exposure: Any, reference_exposure: float) -> Tensor:
    count, codes = len(directions), 0 if code is None else code.shape[1]
    width = DIRECTION_FEATURES + codes + (0 if exposure is None else EXPOSURE_FEATURES)
    out = directions.new_empty(count, width)
    if count:
        # One code may be expanded to all rays: its row stride is then zero.
        strides = (0, 0) if code is None else code.stride()
        _encode_kernel[(triton.cdiv(count, BLOCK_SIZE),)](
            directions, code, exposure, out, count, *strides, 1.0 / reference_exposure, WIDTH=width, CODES=codes,
            BLOCK_SIZE=BLOCK_SIZE,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _encode_kernel(
    directions, code, exposure, out, count, code_row_stride, code_column_stride, scale,
    WIDTH: tl.constexpr, CODES: tl.constexpr, BLOCK_SIZE: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = ray < count
    x = tl.load(directions + 3 * ray, mask=mask, other=0.0)
    y = tl.load(directions + 3 * ray + 1, mask=mask, other=0.0)
    z = tl.load(directions + 3 * ray + 2, mask=mask, other=0.0)
    out_row = out + ray * WIDTH
    _spherical_harmonics(out_row, x, y, z, mask)
    if CODES > 0:
        for index in range(CODES):
            value = tl.load(code + ray * code_row_stride + index * code_column_stride, mask=mask, other=0.0)
            tl.store(out_row + _DIRECTIONS + index, value, mask=mask)
    if exposure is not None:
        exposure_value = tl.load(exposure + ray, mask=mask, other=1.0)
        stops = clamp_nan(tl.log2(tl.where(exposure_value < 1e-12, 1e-12, exposure_value) * scale) / _STOPS, -1.0, 1.0)
        sine, cosine = _sincos_pi_4(stops)
        for _ in tl.static_range(2):
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        for level in tl.static_range(_LEVELS):
            tl.store(out_row + _DIRECTIONS + CODES + level, sine, mask=mask)
            tl.store(out_row + _DIRECTIONS + CODES + _LEVELS + level, cosine, mask=mask)
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine


@triton.jit
@no_type_check
def _sincos_pi_4(x_pi_4):
    """Return sine and cosine of pi / 4 times a number in -1..1, by series that are exact to rounding there.

    General sine and cosine keep a table in memory for large angles. Larger multiples follow by angle doubling.
    """
    x = x_pi_4 * 0.7853981633974483
    xx = x * x
    sine = 1.0 - xx * (1.0 / 6.0) * (1.0 - xx * (1.0 / 20.0) * (1.0 - xx * (1.0 / 42.0) * (1.0 - xx * (1.0 / 72.0))))
    cosine = 1.0 - xx * (1.0 / 30.0) * (1.0 - xx * (1.0 / 56.0) * (1.0 - xx * (1.0 / 90.0)))
    return x * sine, 1.0 - xx * 0.5 * (1.0 - xx * (1.0 / 12.0) * cosine)


@triton.jit
@no_type_check
def _spherical_harmonics(out_row, x, y, z, mask):
    """Store real spherical harmonics of degrees 0 to 3."""
    xx, yy, zz = x * x, y * y, z * z
    tl.store(out_row, tl.full(x.shape, 0.28209479, tl.float32), mask=mask)
    tl.store(out_row + 1, -0.48860251 * y, mask=mask)
    tl.store(out_row + 2, 0.48860251 * z, mask=mask)
    tl.store(out_row + 3, -0.48860251 * x, mask=mask)
    tl.store(out_row + 4, 1.09254843 * x * y, mask=mask)
    tl.store(out_row + 5, -1.09254843 * y * z, mask=mask)
    tl.store(out_row + 6, 0.31539157 * (3.0 * zz - 1.0), mask=mask)
    tl.store(out_row + 7, -1.09254843 * x * z, mask=mask)
    tl.store(out_row + 8, 0.54627421 * (xx - yy), mask=mask)
    tl.store(out_row + 9, -0.59004359 * y * (3.0 * xx - yy), mask=mask)
    tl.store(out_row + 10, 2.89061144 * x * y * z, mask=mask)
    tl.store(out_row + 11, -0.45704579 * y * (5.0 * zz - 1.0), mask=mask)
    tl.store(out_row + 12, 0.37317633 * z * (5.0 * zz - 3.0), mask=mask)
    tl.store(out_row + 13, -0.45704579 * x * (5.0 * zz - 1.0), mask=mask)
    tl.store(out_row + 14, 1.44530572 * z * (xx - yy), mask=mask)
    tl.store(out_row + 15, -0.59004359 * x * (xx - 3.0 * yy), mask=mask)
