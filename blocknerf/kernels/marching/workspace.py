"""The memory that following a tile of rays takes, laid out once for each thread.

It is given to the kernel from outside. What a kernel takes itself is counted by reference at every view of it, and with
views in loops that was an eighth of the time.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.hash_grid.numba_impl import FLOATS, INDEXES
from blocknerf.kernels.marching.ray_simd import RAYS, ROWS
from blocknerf.kernels.mlp.buffer_layout import INPUT_ROOM, OUTPUT_ROOM, TILE, Layout

WAVE = 4
"""Samples of each ray that are evaluated before it is asked again whether light passes."""
LINE = 16
"""Numbers of a cache line: every part starts on one, or every other vector read would touch two lines."""


class Scratch(NamedTuple):
    """The parts, in the order in which they lie; first those of floats, then those of integers."""

    lanes: np.ndarray
    even: np.ndarray
    edges: np.ndarray
    distances: np.ndarray
    thickness: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    spreads: np.ndarray
    logits: np.ndarray
    encoded: np.ndarray
    features: np.ndarray
    room: np.ndarray
    given: np.ndarray
    added: np.ndarray
    hues: np.ndarray
    corners: np.ndarray
    cell: np.ndarray
    slots: np.ndarray
    chosen: np.ndarray
    entries: np.ndarray


INTEGERS = Scratch._fields.index("cell")
"""The first part that holds integers."""


def places(counts: tuple[int, int], proposal: Layout, field: Layout, colors: Layout) -> np.ndarray:
    """Where each part begins and ends, among the floats or among the integers: [parts, 2]."""
    most, wave = max(counts), WAVE * RAYS
    features, biases = int(field.layers[-1, OUTPUT_ROOM]), int(colors.layers[0, OUTPUT_ROOM])
    encoded = max(int(plan.layers[0, INPUT_ROOM]) for plan in (proposal, field))
    sizes = {
        "lanes": ROWS * RAYS, "even": (counts[0] + 1) * RAYS, "edges": (counts[1] + 1) * RAYS,
        "distances": (most + 1) * RAYS, "thickness": most * RAYS, "weights": most * RAYS, "points": 3 * wave,
        "spreads": wave, "logits": wave, "encoded": wave * encoded, "features": (counts[1] * RAYS + TILE) * features,
        "room": max(plan.activations for plan in (proposal, field, colors)), "given": TILE * features,
        "added": TILE * biases, "hues": 3 * TILE, "corners": FLOATS,
        "cell": RAYS, "slots": most * RAYS + wave, "chosen": counts[1] * RAYS + 1, "entries": INDEXES,
    }  # fmt: skip
    found = np.zeros((len(Scratch._fields), 2), np.int64)
    for part, name in enumerate(Scratch._fields):
        start = 0 if part in (0, INTEGERS) else -(-found[part - 1, 1] // LINE) * LINE
        found[part] = start, start + sizes[name]
    return found


def allocate(threads: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The floats and the integers of all threads, a row each, whose floats start on cache lines."""
    rows = -(-places[INTEGERS - 1, 1] // LINE) * LINE
    floats = np.empty(threads * rows + LINE, np.float32)
    first = (-(floats.ctypes.data // floats.itemsize)) % LINE
    return floats[first : first + threads * rows].reshape(threads, rows), np.empty((threads, places[-1, 1]), np.int32)


@njit
@no_type_check
def carve(floats, whole, places):
    """A thread's scratch."""
    return Scratch(
        floats[places[0, 0] : places[0, 1]], floats[places[1, 0] : places[1, 1]],
        floats[places[2, 0] : places[2, 1]], floats[places[3, 0] : places[3, 1]],
        floats[places[4, 0] : places[4, 1]], floats[places[5, 0] : places[5, 1]],
        floats[places[6, 0] : places[6, 1]].reshape(-1, 3), floats[places[7, 0] : places[7, 1]],
        floats[places[8, 0] : places[8, 1]], floats[places[9, 0] : places[9, 1]],
        floats[places[10, 0] : places[10, 1]], floats[places[11, 0] : places[11, 1]],
        floats[places[12, 0] : places[12, 1]], floats[places[13, 0] : places[13, 1]],
        floats[places[14, 0] : places[14, 1]], floats[places[15, 0] : places[15, 1]],
        whole[places[16, 0] : places[16, 1]], whole[places[17, 0] : places[17, 1]],
        whole[places[18, 0] : places[18, 1]], whole[places[19, 0] : places[19, 1]],
    )  # fmt: skip
