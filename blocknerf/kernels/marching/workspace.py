"""Workspace memory of a tile of rays, laid out once per thread.

It is allocated outside the kernel. Numba counts references to memory allocated inside at every view of it, and with
views in loops that took an eighth of the time.
"""

from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from blocknerf.kernels.hash_grid.numba_impl import NUM_FLOATS, NUM_INDICES
from blocknerf.kernels.marching.ray_simd import RAYS, ROWS
from blocknerf.kernels.mlp.buffer_layout import PADDED_IN, PADDED_OUT, TILE, BufferLayout

WAVE = 4
"""Samples per ray that are evaluated between tests of its transmittance."""
CACHE_LINE = 16
"""Numbers per cache line. Every field starts on one, or every other vector load would touch two lines."""


class Workspace(NamedTuple):
    """Workspace fields in memory order: first floats, then integers."""

    state: np.ndarray
    uniform_edges: np.ndarray
    edges: np.ndarray
    distances: np.ndarray
    thickness: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    stds: np.ndarray
    logits: np.ndarray
    encoded: np.ndarray
    features: np.ndarray
    activations: np.ndarray
    inputs: np.ndarray
    bias: np.ndarray
    rgb: np.ndarray
    corners: np.ndarray
    cell: np.ndarray
    slots: np.ndarray
    indices: np.ndarray
    entries: np.ndarray


FIRST_INT_FIELD = Workspace._fields.index("cell")
"""Index of the first integer field."""


def workspace_layout(
    counts: tuple[int, int], proposal: BufferLayout, field: BufferLayout, color: BufferLayout
) -> np.ndarray:
    """Return start and end of each field within the floats or the integers: [fields, 2]."""
    max_count, wave = max(counts), WAVE * RAYS
    features, biases = int(field.layers[-1, PADDED_OUT]), int(color.layers[0, PADDED_OUT])
    encoded = max(int(layout.layers[0, PADDED_IN]) for layout in (proposal, field))
    sizes = {
        "state": ROWS * RAYS, "uniform_edges": (counts[0] + 1) * RAYS, "edges": (counts[1] + 1) * RAYS,
        "distances": (max_count + 1) * RAYS, "thickness": max_count * RAYS, "weights": max_count * RAYS,
        "points": 3 * wave, "stds": wave, "logits": wave, "encoded": wave * encoded,
        "features": (counts[1] * RAYS + TILE) * features,
        "activations": max(layout.activations for layout in (proposal, field, color)), "inputs": TILE * features,
        "bias": TILE * biases, "rgb": 3 * TILE, "corners": NUM_FLOATS,
        "cell": RAYS, "slots": max_count * RAYS + wave, "indices": counts[1] * RAYS + 1, "entries": NUM_INDICES,
    }  # fmt: skip
    bounds = np.zeros((len(Workspace._fields), 2), np.int64)
    for field_index, name in enumerate(Workspace._fields):
        start = 0 if field_index in (0, FIRST_INT_FIELD) else -(-bounds[field_index - 1, 1] // CACHE_LINE) * CACHE_LINE
        bounds[field_index] = start, start + sizes[name]
    return bounds


def allocate(threads: int, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Allocate the floats and integers of all threads, one row each. Rows of floats start on cache lines."""
    row_length = -(-bounds[FIRST_INT_FIELD - 1, 1] // CACHE_LINE) * CACHE_LINE
    floats = np.empty(threads * row_length + CACHE_LINE, np.float32)
    first = (-(floats.ctypes.data // floats.itemsize)) % CACHE_LINE
    rows = floats[first : first + threads * row_length].reshape(threads, row_length)
    return rows, np.empty((threads, bounds[-1, 1]), np.int32)


@njit
@no_type_check
def view_workspace(floats, ints, bounds):
    """Return the workspace of a thread."""
    return Workspace(
        floats[bounds[0, 0] : bounds[0, 1]], floats[bounds[1, 0] : bounds[1, 1]],
        floats[bounds[2, 0] : bounds[2, 1]], floats[bounds[3, 0] : bounds[3, 1]],
        floats[bounds[4, 0] : bounds[4, 1]], floats[bounds[5, 0] : bounds[5, 1]],
        floats[bounds[6, 0] : bounds[6, 1]].reshape(-1, 3), floats[bounds[7, 0] : bounds[7, 1]],
        floats[bounds[8, 0] : bounds[8, 1]], floats[bounds[9, 0] : bounds[9, 1]],
        floats[bounds[10, 0] : bounds[10, 1]], floats[bounds[11, 0] : bounds[11, 1]],
        floats[bounds[12, 0] : bounds[12, 1]], floats[bounds[13, 0] : bounds[13, 1]],
        floats[bounds[14, 0] : bounds[14, 1]], floats[bounds[15, 0] : bounds[15, 1]],
        ints[bounds[16, 0] : bounds[16, 1]], ints[bounds[17, 0] : bounds[17, 1]],
        ints[bounds[18, 0] : bounds[18, 1]], ints[bounds[19, 0] : bounds[19, 1]],
    )  # fmt: skip
