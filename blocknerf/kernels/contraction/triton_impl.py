"""The contraction in Triton for a GPU, float32: one pass where PyTorch makes a dozen."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from blocknerf.kernels.triton_ops import BLOCK, larger


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """What `reference.contract_to_unit_cube` gives, in one kernel each way; differentiable once in the points alone."""
    place = (*map(float, origin), 1.0 / half_extent)
    return _ToUnitCube.apply(points.contiguous(), footprints.detach().contiguous(), place)


class _ToUnitCube(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, footprints: Tensor, place: tuple[float, float, float, float]
    ) -> tuple[Tensor, Tensor]:
        cube, radii = torch.empty_like(points), torch.empty_like(footprints)
        count = len(points)
        if count:
            grid = (triton.cdiv(count, BLOCK),)
            _contract[grid](points.detach(), footprints, cube, radii, count, *place, BLOCK=BLOCK)
        ctx.save_for_backward(points)
        ctx.place = place
        ctx.mark_non_differentiable(radii)
        return cube, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (points,) = ctx.saved_tensors
        out, count = torch.empty_like(points), len(points)
        if count:
            grid = (triton.cdiv(count, BLOCK),)
            _to_points[grid](points.detach(), gradients.contiguous(), out, count, *ctx.place, BLOCK=BLOCK)
        return out, None, None


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _contract(points, footprints, cube, radii, count, east, north, up, scale, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = lane < count - first
    x, y, z = _normalized(points + first * 3, lane, inside, east, north, up, scale)
    size = _size(x, y, z)
    shrink = 0.25 * (2.0 - 1.0 / size) / size
    at = first * 3 + lane * 3
    tl.store(cube + at, x * shrink + 0.5, mask=inside)
    tl.store(cube + at + 1, y * shrink + 0.5, mask=inside)
    tl.store(cube + at + 2, z * shrink + 0.5, mask=inside)
    footprint = tl.load(footprints + first + lane, mask=inside, other=0.0)
    tl.store(radii + first + lane, footprint * shrink * scale, mask=inside)


@triton.jit(do_not_specialize=["count"])
@no_type_check
def _to_points(points, gradients, out, count, east, north, up, scale, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = lane < count - first
    x, y, z = _normalized(points + first * 3, lane, inside, east, north, up, scale)
    at = first * 3 + lane * 3
    u = tl.load(gradients + at, mask=inside, other=0.0)
    v = tl.load(gradients + at + 1, mask=inside, other=0.0)
    w = tl.load(gradients + at + 2, mask=inside, other=0.0)
    size = _size(x, y, z)
    part = scale * 0.25 * (2.0 - 1.0 / size) / size
    # Along the longest axis, or evenly along those that share its length, the factor itself changes.
    a, b, c = tl.abs(x) == size, tl.abs(y) == size, tl.abs(z) == size
    share = tl.maximum(a.to(tl.float32) + b.to(tl.float32) + c.to(tl.float32), 1.0)
    slope = scale * 0.5 * (1.0 / size - 1.0) / size * ((u * x + v * y + w * z) / size) / share
    tl.store(out + at, part * u + tl.where(a, tl.where(x > 0.0, slope, -slope), 0.0), mask=inside)
    tl.store(out + at + 1, part * v + tl.where(b, tl.where(y > 0.0, slope, -slope), 0.0), mask=inside)
    tl.store(out + at + 2, part * w + tl.where(c, tl.where(z > 0.0, slope, -slope), 0.0), mask=inside)


@triton.jit
@no_type_check
def _normalized(points, lane, inside, east, north, up, scale):
    x = (tl.load(points + lane * 3, mask=inside, other=0.0) - east) * scale
    y = (tl.load(points + lane * 3 + 1, mask=inside, other=0.0) - north) * scale
    z = (tl.load(points + lane * 3 + 2, mask=inside, other=0.0) - up) * scale
    return x, y, z


@triton.jit
@no_type_check
def _size(x, y, z):
    return larger(larger(tl.abs(x), tl.abs(y)), larger(tl.abs(z), 1.0))
