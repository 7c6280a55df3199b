"""Static-frame filter: skip frames of a vehicle that is not moving (Tancik et al. 2022, section 3.1)."""

import math

from jaxtyping import Float
from torch import Tensor

MIN_ROTATION = math.radians(1.0)
"""A camera that rotated by more than this shows something new."""


def moving_frames(poses: Float[Tensor, "frames 3 4"], min_distance: float) -> list[int]:
    """Return the indices of poses that moved by `min_distance` or rotated by `MIN_ROTATION` since the last kept one.

    The first is always kept; poses are in the order of capture.
    """
    kept: list[int] = []
    axes, centers = poses[:, :, :3].double().numpy(), poses[:, :, 3].double().numpy()
    for i in range(len(poses)):
        if not kept:
            kept.append(i)
            continue
        is_still = math.dist(centers[i], centers[kept[-1]]) < min_distance
        # The trace of a relative rotation is 1 + 2 cos(angle).
        cosine = (float((axes[i] * axes[kept[-1]]).sum()) - 1.0) / 2.0
        if not (is_still and cosine > math.cos(MIN_ROTATION)):
            kept.append(i)
    return kept
