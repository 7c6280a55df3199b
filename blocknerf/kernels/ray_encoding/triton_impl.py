"""Triton (GPU, float32) ray encoding: one kernel where PyTorch launches about eighty."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.ray_encoding.torch_impl import DIRECTION_FEATURES
from blocknerf.kernels.triton_ops import BLOCK_SIZE

_DIRECTIONS = tl.constexpr(DIRECTION_FEATURES)


def encode_ray_inputs(
    directions: Float[Tensor, "rays 3"], code: Float[Tensor, "rays codes"]
) -> Float[Tensor, "rays row"]:
    """Triton version of `torch_impl.encode_ray_inputs`, one kernel, once differentiable in the codes only."""
    return _EncodeRayInputs.apply(directions.detach().contiguous(), code)


def encode_directions(directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 16"]:
    """Triton version of `torch_impl.encode_directions`, one kernel, without a gradient."""
    return _encode(directions.detach().contiguous(), None)


class _EncodeRayInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, code: Tensor) -> Tensor:
        return _encode(directions, code.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[:, DIRECTION_FEATURES:]


def _encode(directions: Tensor, code: Tensor | None) -> Tensor:
    count, codes = len(directions), 0 if code is None else code.shape[1]
    out = directions.new_empty(count, DIRECTION_FEATURES + codes)
    if count:
        # One code may be expanded to all rays: its row stride is then zero.
        strides = (0, 0) if code is None else code.stride()
        _encode_kernel[(triton.cdiv(count, BLOCK_SIZE),)](
            directions, code, out, count, *strides, CODES=codes, BLOCK_SIZE=BLOCK_SIZE
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _encode_kernel(
    directions, code, out, count, code_row_stride, code_column_stride, CODES: tl.constexpr, BLOCK_SIZE: tl.constexpr
):  # fmt: skip
    ray = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = ray < count
    x = tl.load(directions + 3 * ray, mask=mask, other=0.0)
    y = tl.load(directions + 3 * ray + 1, mask=mask, other=0.0)
    z = tl.load(directions + 3 * ray + 2, mask=mask, other=0.0)
    out_row = out + ray * (_DIRECTIONS + CODES)
    _spherical_harmonics(out_row, x, y, z, mask)
    if CODES > 0:
        for index in range(CODES):
            value = tl.load(code + ray * code_row_stride + index * code_column_stride, mask=mask, other=0.0)
            tl.store(out_row + _DIRECTIONS + index, value, mask=mask)


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
