"""Fewer frames where a vehicle stood still (Tancik et al. 2022, section 3.1)."""

import math

from jaxtyping import Float
from torch import Tensor

MIN_ROTATION = math.radians(1.0)
"""A camera that turned by more than this saw something new."""


def moving_frames(poses: Float[Tensor, "frames 3 4"], step: float) -> list[int]:
    """Positions in the list of the poses that moved by `step` or turned by `MIN_ROTATION` since the last one kept.

    The first is always kept; poses are in the order taken.
    """
    kept: list[int] = []
    axes, centers = poses[:, :, :3].double().numpy(), poses[:, :, 3].double().numpy()
    for i in range(len(poses)):
        if not kept:
            kept.append(i)
            continue
        still = math.dist(centers[i], centers[kept[-1]]) < step
        # The trace of a relative rotation is 1 + 2 cos(angle).
        cosine = (float((axes[i] * axes[kept[-1]]).sum()) - 1.0) / 2.0
        if not (still and cosine > math.cos(MIN_ROTATION)):
            kept.append(i)
    return kept
