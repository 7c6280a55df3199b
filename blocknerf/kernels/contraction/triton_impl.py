"""Triton (GPU, float32) contraction: one pass where PyTorch makes a dozen."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import BLOCK_SIZE, max_nan


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """Triton version of `torch_impl.contract_to_unit_cube`, once differentiable in the points only."""
    box = (*map(float, origin), 1.0 / half_extent)
    return _Contract.apply(points.contiguous(), footprints.detach().contiguous(), box)


class _Contract(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, footprints: Tensor, box: tuple[float, float, float, float]
    ) -> tuple[Tensor, Tensor]:
        cube, radii = torch.empty_like(points), torch.empty_like(footprints)
        count = len(points)
        if count:
            grid = (triton.cdiv(count, BLOCK_SIZE),)
            _contract[grid](points.detach(), footprints, cube, radii, count, *box, BLOCK_SIZE=BLOCK_SIZE)
        ctx.save_for_backward(points)
        ctx.box = box
        ctx.mark_non_differentiable(radii)
        return cube, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (points,) = ctx.saved_tensors
        out, count = torch.empty_like(points), len(points)
        if count:
            grid = (triton.cdiv(count, BLOCK_SIZE),)
            _contract_backward[grid](
                points.detach(), gradients.contiguous(), out, count, *ctx.box, BLOCK_SIZE=BLOCK_SIZE
            )
        return out, None, None


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _contract(points, footprints, cube, radii, count, cx, cy, cz, scale, BLOCK_SIZE: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK_SIZE
    lane = tl.arange(0, BLOCK_SIZE)
    mask = lane < count - start
    x, y, z = _load_normalized(points + start * 3, lane, mask, cx, cy, cz, scale)
    norm = _norm(x, y, z)
    factor = 0.25 * (2.0 - 1.0 / norm) / norm
    offset = start * 3 + lane * 3
    tl.store(cube + offset, x * factor + 0.5, mask=mask)
    tl.store(cube + offset + 1, y * factor + 0.5, mask=mask)
    tl.store(cube + offset + 2, z * factor + 0.5, mask=mask)
    footprint = tl.load(footprints + start + lane, mask=mask, other=0.0)
    tl.store(radii + start + lane, footprint * factor * scale, mask=mask)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _contract_backward(points, gradients, out, count, cx, cy, cz, scale, BLOCK_SIZE: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK_SIZE
    lane = tl.arange(0, BLOCK_SIZE)
    mask = lane < count - start
    x, y, z = _load_normalized(points + start * 3, lane, mask, cx, cy, cz, scale)
    offset = start * 3 + lane * 3
    u = tl.load(gradients + offset, mask=mask, other=0.0)
    v = tl.load(gradients + offset + 1, mask=mask, other=0.0)
    w = tl.load(gradients + offset + 2, mask=mask, other=0.0)
    norm = _norm(x, y, z)
    factor = scale * 0.25 * (2.0 - 1.0 / norm) / norm
    # Along the longest axis the factor itself changes; axes of equal length split that gradient evenly.
    a, b, c = tl.abs(x) == norm, tl.abs(y) == norm, tl.abs(z) == norm
    ties = tl.maximum(a.to(tl.float32) + b.to(tl.float32) + c.to(tl.float32), 1.0)
    axis_grad = scale * 0.5 * (1.0 / norm - 1.0) / norm * ((u * x + v * y + w * z) / norm) / ties
    tl.store(out + offset, factor * u + tl.where(a, tl.where(x > 0.0, axis_grad, -axis_grad), 0.0), mask=mask)
    tl.store(out + offset + 1, factor * v + tl.where(b, tl.where(y > 0.0, axis_grad, -axis_grad), 0.0), mask=mask)
    tl.store(out + offset + 2, factor * w + tl.where(c, tl.where(z > 0.0, axis_grad, -axis_grad), 0.0), mask=mask)


@triton.jit
@no_type_check
def _load_normalized(points, lane, mask, cx, cy, cz, scale):
    x = (tl.load(points + lane * 3, mask=mask, other=0.0) - cx) * scale
    y = (tl.load(points + lane * 3 + 1, mask=mask, other=0.0) - cy) * scale
    z = (tl.load(points + lane * 3 + 2, mask=mask, other=0.0) - cz) * scale
    return x, y, z


@triton.jit
@no_type_check
def _norm(x, y, z):
    return max_nan(max_nan(tl.abs(x), tl.abs(y)), max_nan(tl.abs(z), 1.0))
