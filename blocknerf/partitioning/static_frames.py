"""Static-frame filter: skip frames of a vehicle that is not moving (Tancik et al. 2022, section 3.1)."""

import math

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.partitioning.path_thinning import thin_path

MIN_ROTATION = math.radians(1.0)
"""A camera that rotated by more than this shows something new."""


def moving_frames(poses: Float[Tensor, "frames 3 4"], min_distance: float) -> list[int]:
    """Return the indices of poses that moved by `min_distance` or rotated by `MIN_ROTATION` since the last kept one.

    The first is always kept; poses are in the order of capture.
    """
    axes, centers = poses[:, :, :3].double().numpy(), poses[:, :, 3].double().numpy()

    def moved(first: slice, second: slice) -> Bool[np.ndarray, "poses"]:
        is_still = np.linalg.norm(centers[second] - centers[first], axis=-1) < min_distance
        # The trace of a relative rotation is 1 + 2 cos(angle).
        cosines = ((axes[second] * axes[first]).sum((-1, -2)) - 1.0) / 2.0
        return ~(is_still & (cosines > math.cos(MIN_ROTATION)))

    return thin_path(len(poses), moved)
