"""How much a film changes from one picture to the next: hand-overs between blocks show as jumps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8


def picture_change(before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]) -> float:
    """Mean absolute difference of display values 0..1 between two pictures.

    >>> picture_change(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8))
    0.2
    """
    return float(np.abs(before.astype(np.int16) - after).mean() / 255.0)


def hand_over_change(
    before: Float[np.ndarray, "blocks height width"],
    after: Float[np.ndarray, "blocks height width"],
    pictures: Float[np.ndarray, "blocks height width 3"],
) -> float:
    """How much a picture of the city changes only because its weights do: mean absolute difference, 0..1.

    Through one block it is zero, however the camera moves. So it tells, where a change between pictures that also
    move can not, a weighting that flickers or jumps from one that hands over calmly: over the pictures of a passage
    its sum is least where weights never turn back, its root mean square where they besides take their time.

    Args:
        before: Weights of the blocks in the picture before; zero for one that was not in it.
        after: Weights in this picture.
        pictures: What each block alone shows in this picture.

    >>> half, whole = np.full((2, 1, 1), 0.5), np.array([1.0, 0.0]).reshape(2, 1, 1)
    >>> hand_over_change(half, whole, np.stack([np.full((1, 1, 3), 0.75), np.full((1, 1, 3), 0.25)]))
    0.25
    """
    return float(np.abs(((after - before)[..., None] * pictures).sum(0)).mean())


def largest_jump(changes: Sequence[float]) -> float:
    """The largest change between neighboring pictures, in units of the usual one.

    The usual change is the median of those around each place (up to 8 on either side), so that a film which
    turns is not taken for one that jumps. 1 for a film that changes evenly, or not at all.

    >>> largest_jump([0.1, 0.1, 0.1, 0.3, 0.1, 0.1])
    3.0
    """
    values = np.asarray(changes, dtype=np.float64)
    jumps = [values[i] / usual for i in range(len(values)) if (usual := _usual(values, i)) > 0.0]
    return round(float(max(jumps, default=1.0)), 9)


def _usual(values: np.ndarray, place: int) -> float:
    around = np.concatenate([values[max(0, place - 8) : place], values[place + 1 : place + 9]])
    return float(np.median(around)) if around.size else 0.0
