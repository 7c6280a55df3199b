"""Numba (CPU, float32) contraction: one pass where PyTorch makes a dozen."""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.numba_config import FASTMATH_ORDERED

CHUNK_PER_THREAD = 4096
"""Points per unit of work of a thread."""

_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_HALF, _QUARTER = np.float32(0.5), np.float32(0.25)


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """Numba version of `torch_impl.contract_to_unit_cube`, once differentiable in the points only."""
    box = np.array([*origin, half_extent], np.float32)
    return _Contract.apply(points.contiguous(), footprints.detach().contiguous(), box)


class _Contract(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, footprints: Tensor, box: np.ndarray) -> tuple[Tensor, Tensor]:
        apply_numba_threads(max_threads=1 + len(points) // CHUNK_PER_THREAD)
        cube, radii = torch.empty_like(points), torch.empty_like(footprints)
        _contract(points.detach().numpy(), footprints.numpy(), box, cube.numpy(), radii.numpy())
        ctx.save_for_backward(points)
        ctx.box = box
        ctx.mark_non_differentiable(radii)
        return cube, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradients: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (points,) = ctx.saved_tensors
        apply_numba_threads(max_threads=1 + len(points) // CHUNK_PER_THREAD)
        out = torch.empty_like(points)
        _contract_backward(points.detach().numpy(), gradients.contiguous().numpy(), ctx.box, out.numpy())
        return out, None, None


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _contract(points, footprints, box, cube, radii):
    count, scale = points.shape[0], _ONE / box[3]
    for chunk in prange((count + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for i in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, count)):
            x = (points[i, 0] - box[0]) * scale
            y = (points[i, 1] - box[1]) * scale
            z = (points[i, 2] - box[2]) * scale
            factor = contraction_scale(x, y, z)
            cube[i, 0] = x * factor + _HALF
            cube[i, 1] = y * factor + _HALF
            cube[i, 2] = z * factor + _HALF
            radii[i] = footprints[i] * factor * scale


@njit(parallel=True, fastmath=FASTMATH_ORDERED, error_model="numpy", cache=True)
@no_type_check
def _contract_backward(points, gradients, box, out):
    count, scale = points.shape[0], _ONE / box[3]
    for chunk in prange((count + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for i in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, count)):
            x = (points[i, 0] - box[0]) * scale
            y = (points[i, 1] - box[1]) * scale
            z = (points[i, 2] - box[2]) * scale
            a, b, c = abs(x), abs(y), abs(z)
            norm, factor = max(max(a, b), max(c, _ONE)), contraction_scale(x, y, z)
            u, v, w = gradients[i, 0], gradients[i, 1], gradients[i, 2]
            out[i, 0], out[i, 1], out[i, 2] = scale * factor * u, scale * factor * v, scale * factor * w
            if norm > _ONE:
                # Along the longest axis the factor itself changes.
                axis_grad = scale * _HALF * (_ONE / norm - _ONE) / (norm * norm) * (u * x + v * y + w * z)
                if a == norm:
                    out[i, 0] += axis_grad if x > _ZERO else -axis_grad
                elif b == norm:
                    out[i, 1] += axis_grad if y > _ZERO else -axis_grad
                else:
                    out[i, 2] += axis_grad if z > _ZERO else -axis_grad


@njit(fastmath=FASTMATH_ORDERED, error_model="numpy")
@no_type_check
def contraction_scale(x, y, z):
    """Return the factor from a point in half extents to its offset from the middle of the unit cube."""
    norm = max(max(abs(x), abs(y)), max(abs(z), _ONE))
    return _QUARTER * (_TWO - _ONE / norm) / norm
