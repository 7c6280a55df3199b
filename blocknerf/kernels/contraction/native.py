"""The contraction in Numba for the processor, float32: one pass where PyTorch makes a dozen."""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import enter_numba

SPAN = 4096
"""Points that a thread takes at once."""

_ONE, _TWO, _HALF, _QUARTER = np.float32(1.0), np.float32(2.0), np.float32(0.5), np.float32(0.25)


def to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """What `reference.to_unit_cube` gives, by compiled loops and without gradients."""
    enter_numba(most=1 + len(points) // SPAN)
    points, footprints = points.detach().contiguous(), footprints.detach().contiguous()
    cube, radii = torch.empty_like(points), torch.empty_like(footprints)
    place = np.array([*origin, half_extent], np.float32)
    _contract(points.numpy(), footprints.numpy(), place, cube.numpy(), radii.numpy())
    return cube, radii


@njit(parallel=True, fastmath={"contract", "nsz", "arcp"}, error_model="numpy", cache=True)
@no_type_check
def _contract(points, footprints, place, cube, radii):
    count, scale = points.shape[0], _ONE / place[3]
    for span in prange((count + SPAN - 1) // SPAN):
        for i in range(span * SPAN, min((span + 1) * SPAN, count)):
            x = (points[i, 0] - place[0]) * scale
            y = (points[i, 1] - place[1]) * scale
            z = (points[i, 2] - place[2]) * scale
            size = max(max(abs(x), abs(y)), max(abs(z), _ONE))
            shrink = _QUARTER * (_TWO - _ONE / size) / size
            cube[i, 0] = x * shrink + _HALF
            cube[i, 1] = y * shrink + _HALF
            cube[i, 2] = z * shrink + _HALF
            radii[i] = footprints[i] * shrink * scale
