"""How much a film changes from one picture to the next: hand-overs between blocks show as jumps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8


def frame_difference(before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]) -> float:
    """Mean absolute difference of display values 0..1 between two pictures.

    >>> frame_difference(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8))
    0.2
    """
    return float(np.abs(before.astype(np.int16) - after).mean() / 255.0)


def max_temporal_jump(changes: Sequence[float]) -> float:
    """The largest change between neighboring pictures, in units of the usual one.

    The usual change is the median of those around each place (up to 8 on either side), so that a film which
    turns is not taken for one that jumps. 1 for a film that changes evenly, or not at all.

    >>> max_temporal_jump([0.1, 0.1, 0.1, 0.3, 0.1, 0.1])
    3.0
    """
    values = np.asarray(changes, dtype=np.float64)
    jumps = [values[i] / usual for i in range(len(values)) if (usual := _usual(values, i)) > 0.0]
    return round(float(max(jumps, default=1.0)), 9)


def _usual(values: np.ndarray, place: int) -> float:
    around = np.concatenate([values[max(0, place - 8) : place], values[place + 1 : place + 9]])
    return float(np.median(around)) if around.size else 0.0
