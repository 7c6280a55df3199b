"""Thinning of a path: the first position, and each next one that differs enough from the last one that was kept."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

Differ = Callable[[slice, slice], Bool[np.ndarray, "positions"]]
"""Returns which positions of the second slice differ enough from those of the first, of length one or as many."""

WINDOW = 16
"""Positions compared in parallel with the last kept one; doubled while none differs."""


def thin_path(count: int, differ: Differ) -> list[int]:
    """Return the indices of the positions that are kept, out of `count` along a path; the first always is.

    Runs of positions that each differ from the one before cost one step together.
    """
    if count == 0:
        return []
    still = np.flatnonzero(~differ(slice(0, count - 1), slice(1, count))) + 1
    kept, last = [0], 0
    while last < count - 1:
        later = np.searchsorted(still, last, side="right")
        end = int(still[later]) if later < len(still) else count
        kept += range(last + 1, end)
        following = _next_different(differ, end - 1, count)
        if following is None:
            break
        kept.append(following)
        last = following
    return kept


def spaced_positions(positions: Float[np.ndarray, "positions axes"], spacing: float) -> list[int]:
    """Return the indices of positions along a path that are at least `spacing` from the last one that was kept.

    >>> spaced_positions(np.array([[0.0], [0.4], [1.1], [1.5], [2.0], [2.2]]), 1.0)
    [0, 2, 5]
    """
    return thin_path(
        len(positions),
        lambda first, second: np.linalg.norm(positions[second] - positions[first], axis=-1) >= spacing,
    )


def _next_different(differ: Differ, last: int, count: int) -> int | None:
    start, window = last + 1, WINDOW
    while start < count:
        found = differ(slice(last, last + 1), slice(start, min(start + window, count)))
        if found.any():
            return start + int(found.argmax())
        start, window = start + window, 2 * window
    return None
