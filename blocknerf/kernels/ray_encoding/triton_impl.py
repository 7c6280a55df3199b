"""Rows of rays in Triton for a GPU, float32: one kernel where PyTorch makes some eighty."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.ray_encoding.torch_impl import DIRECTION_FEATURES, EXPOSURE_LEVELS, EXPOSURE_STOPS
from blocknerf.kernels.triton_ops import BLOCK, within

_LEVELS, _STOPS = tl.constexpr(EXPOSURE_LEVELS), tl.constexpr(EXPOSURE_STOPS)
_DIRECTIONS = tl.constexpr(DIRECTION_FEATURES)


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"], exposure: Float[Tensor, "rays"], base: float
) -> Float[Tensor, "rays row"]:
    """What the reference gives, in one kernel; differentiable once in the codes alone."""
    return _Rows.apply(directions.detach().contiguous(), code, exposure.detach().contiguous(), base)


def encode_directions(directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 16"]:
    """What `reference.spherical_harmonics` gives, in one kernel and without a gradient."""
    return _encode(directions.detach().contiguous(), None, None, 1.0)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, code: Tensor, exposure: Tensor, base: float) -> Tensor:
        ctx.codes = code.shape[1]
        return _encode(directions, code.detach(), exposure, base)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[None, Tensor, None, None]:
        return None, gradients[:, DIRECTION_FEATURES : DIRECTION_FEATURES + ctx.codes], None, None


def _encode(directions: Tensor, code: Any, exposure: Any, base: float) -> Tensor:
    count, codes = len(directions), 0 if code is None else code.shape[1]
    width = DIRECTION_FEATURES + codes + (0 if exposure is None else 2 * EXPOSURE_LEVELS)
    out = directions.new_empty(count, width)
    if count:
        # One code may serve all rays: its row is then read again and again.
        strides = (0, 0) if code is None else code.stride()
        _fill[(triton.cdiv(count, BLOCK),)](
            directions, code, exposure, out, count, *strides, 1.0 / base, WIDTH=width, CODES=codes, BLOCK=BLOCK
        )
    return out


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _fill(
    directions, code, exposure, out, count, code_stride, code_step, scale,
    WIDTH: tl.constexpr, CODES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = ray < count
    x = tl.load(directions + 3 * ray, mask=inside, other=0.0)
    y = tl.load(directions + 3 * ray + 1, mask=inside, other=0.0)
    z = tl.load(directions + 3 * ray + 2, mask=inside, other=0.0)
    row = out + ray * WIDTH
    _harmonics(row, x, y, z, inside)
    if CODES > 0:
        for index in range(CODES):
            value = tl.load(code + ray * code_stride + index * code_step, mask=inside, other=0.0)
            tl.store(row + _DIRECTIONS + index, value, mask=inside)
    if exposure is not None:
        light = tl.load(exposure + ray, mask=inside, other=1.0)
        stops = within(tl.log2(tl.where(light < 1e-12, 1e-12, light) * scale) / _STOPS, -1.0, 1.0)
        sine, cosine = _quarter_turn(stops)
        for _ in tl.static_range(2):
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        for level in tl.static_range(_LEVELS):
            tl.store(row + _DIRECTIONS + CODES + level, sine, mask=inside)
            tl.store(row + _DIRECTIONS + CODES + _LEVELS + level, cosine, mask=inside)
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine


@triton.jit
@no_type_check
def _quarter_turn(share):
    """Sine and cosine of pi / 4 times what is from -1 to 1, by series that are exact to rounding there.

    Those of any angle keep a table in memory for angles of any size; twice the angle follows from these.
    """
    x = share * 0.7853981633974483
    xx = x * x
    sine = 1.0 - xx * (1.0 / 6.0) * (1.0 - xx * (1.0 / 20.0) * (1.0 - xx * (1.0 / 42.0) * (1.0 - xx * (1.0 / 72.0))))
    cosine = 1.0 - xx * (1.0 / 30.0) * (1.0 - xx * (1.0 / 56.0) * (1.0 - xx * (1.0 / 90.0)))
    return x * sine, 1.0 - xx * 0.5 * (1.0 - xx * (1.0 / 12.0) * cosine)


@triton.jit
@no_type_check
def _harmonics(row, x, y, z, inside):
    """Real spherical harmonics of degrees 0 to 3."""
    xx, yy, zz = x * x, y * y, z * z
    tl.store(row, tl.full(x.shape, 0.28209479, tl.float32), mask=inside)
    tl.store(row + 1, -0.48860251 * y, mask=inside)
    tl.store(row + 2, 0.48860251 * z, mask=inside)
    tl.store(row + 3, -0.48860251 * x, mask=inside)
    tl.store(row + 4, 1.09254843 * x * y, mask=inside)
    tl.store(row + 5, -1.09254843 * y * z, mask=inside)
    tl.store(row + 6, 0.31539157 * (3.0 * zz - 1.0), mask=inside)
    tl.store(row + 7, -1.09254843 * x * z, mask=inside)
    tl.store(row + 8, 0.54627421 * (xx - yy), mask=inside)
    tl.store(row + 9, -0.59004359 * y * (3.0 * xx - yy), mask=inside)
    tl.store(row + 10, 2.89061144 * x * y * z, mask=inside)
    tl.store(row + 11, -0.45704579 * y * (5.0 * zz - 1.0), mask=inside)
    tl.store(row + 12, 0.37317633 * z * (5.0 * zz - 3.0), mask=inside)
    tl.store(row + 13, -0.45704579 * x * (5.0 * zz - 1.0), mask=inside)
    tl.store(row + 14, 1.44530572 * z * (xx - yy), mask=inside)
    tl.store(row + 15, -0.59004359 * x * (xx - 3.0 * yy), mask=inside)
