"""The contraction in Numba for the processor, float32: one pass where PyTorch makes a dozen."""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH_ORDERED

SPAN = 4096
"""Points that a thread takes at once."""

_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_HALF, _QUARTER = np.float32(0.5), np.float32(0.25)


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """What `reference.contract_to_unit_cube` gives, by compiled loops; differentiable once in the points alone."""
    place = np.array([*origin, half_extent], np.float32)
    return _ToUnitCube.apply(points.contiguous(), footprints.detach().contiguous(), place)


class _ToUnitCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, footprints: Tensor, place: np.ndarray) -> tuple[Tensor, Tensor]:
        apply_numba_threads(most=1 + len(points) // SPAN)
        cube, radii = torch.empty_like(points), torch.empty_like(footprints)
        _contract(points.detach().numpy(), footprints.numpy(), place, cube.numpy(), radii.numpy())
        ctx.save_for_backward(points)
        ctx.place = place
        ctx.mark_non_differentiable(radii)
        return cube, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (points,) = ctx.saved_tensors
        apply_numba_threads(most=1 + len(points) // SPAN)
        out = torch.empty_like(points)
        _to_points(points.detach().numpy(), gradients.contiguous().numpy(), ctx.place, out.numpy())
        return out, None, None


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _contract(points, footprints, place, cube, radii):
    count, scale = points.shape[0], _ONE / place[3]
    for span in prange((count + SPAN - 1) // SPAN):
        for i in range(span * SPAN, min((span + 1) * SPAN, count)):
            x = (points[i, 0] - place[0]) * scale
            y = (points[i, 1] - place[1]) * scale
            z = (points[i, 2] - place[2]) * scale
            shrink = shrinkage(x, y, z)
            cube[i, 0] = x * shrink + _HALF
            cube[i, 1] = y * shrink + _HALF
            cube[i, 2] = z * shrink + _HALF
            radii[i] = footprints[i] * shrink * scale


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _to_points(points, gradients, place, out):
    count, scale = points.shape[0], _ONE / place[3]
    for span in prange((count + SPAN - 1) // SPAN):
        for i in range(span * SPAN, min((span + 1) * SPAN, count)):
            x = (points[i, 0] - place[0]) * scale
            y = (points[i, 1] - place[1]) * scale
            z = (points[i, 2] - place[2]) * scale
            a, b, c = abs(x), abs(y), abs(z)
            size, shrink = max(max(a, b), max(c, _ONE)), shrinkage(x, y, z)
            u, v, w = gradients[i, 0], gradients[i, 1], gradients[i, 2]
            out[i, 0], out[i, 1], out[i, 2] = scale * shrink * u, scale * shrink * v, scale * shrink * w
            if size > _ONE:
                # Along the longest axis the factor itself changes.
                slope = scale * _HALF * (_ONE / size - _ONE) / (size * size) * (u * x + v * y + w * z)
                if a == size:
                    out[i, 0] += slope if x > _ZERO else -slope
                elif b == size:
                    out[i, 1] += slope if y > _ZERO else -slope
                else:
                    out[i, 2] += slope if z > _ZERO else -slope


@njit(fastmath=FASTMATH_ORDERED, error_model="numpy")
@no_type_check
def shrinkage(x, y, z):
    """The factor from a point in half extents to its place in the unit cube, from the cube's middle."""
    size = max(max(abs(x), abs(y)), max(abs(z), _ONE))
    return _QUARTER * (_TWO - _ONE / size) / size
