"""Temporal consistency of a video: block transitions show up as jumps between frames."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8


def frame_difference(before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]) -> float:
    """Return the mean absolute difference of two frames in display values 0..1.

    >>> frame_difference(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8))
    0.2
    """
    return float(np.abs(before.astype(np.int16) - after).mean() / 255.0)


def max_temporal_jump(differences: Sequence[float]) -> float:
    """Return the largest difference between consecutive frames, relative to its neighborhood.

    Each difference is divided by the median of up to 8 neighbors on either side, so that a camera turn does not count
    as a jump. The result is 1 for a video that changes evenly or not at all.

    >>> max_temporal_jump([0.1, 0.1, 0.1, 0.3, 0.1, 0.1])
    3.0
    """
    values = np.asarray(differences, dtype=np.float64)
    jumps = [values[i] / median for i in range(len(values)) if (median := _neighborhood_median(values, i)) > 0.0]
    return round(float(max(jumps, default=1.0)), 9)


def _neighborhood_median(values: np.ndarray, index: int) -> float:
    neighbors = np.concatenate([values[max(0, index - 8) : index], values[index + 1 : index + 9]])
    return float(np.median(neighbors)) if neighbors.size else 0.0
