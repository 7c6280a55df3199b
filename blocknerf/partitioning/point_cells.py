"""Points sorted into cells, so that those in one view are found without looking at all others."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.partitioning.view_frusta import ViewFrusta

POINTS_PER_CELL = 128
"""Mean number of points in a cell of flat ground."""
MAX_ELONGATION = 1000.0
"""Largest ratio of the points' longest extent to the side that their cells are derived from."""
ROUNDING = 1e-6
"""Fraction of the coordinates by which the spheres are larger."""


class PointCells:
    """The cells of a grid that have points, each enclosed by a sphere."""

    def __init__(self, points: Float[Tensor, "points 3"]) -> None:
        cells = _cell_numbers(points.numpy())
        order = cells.argsort(kind="stable")
        self.order = torch.from_numpy(order)
        """Indices of the points, sorted by cell."""
        starts = np.unique(cells[order], return_index=True)[1]
        self._starts = torch.from_numpy(starts)
        self.counts = torch.from_numpy(np.diff(starts, append=len(points)))
        """Number of points in each cell."""
        ordered = points.numpy()[order]
        low, high = (function.reduceat(ordered, starts) for function in (np.minimum, np.maximum))
        self.centers = torch.from_numpy((low + high) / 2)
        # Wider than needed, since single precision rounds coordinates.
        self.radii = torch.from_numpy(np.linalg.norm(high - low, axis=-1) / 2 + ROUNDING * np.abs(ordered).max())

    def in_view(self, frusta: ViewFrusta, index: int) -> Int[Tensor, "cells"]:
        """Return the cells that may have points in one camera's view."""
        offsets = self.centers - frusta.cameras.centers[index]
        distances = offsets.norm(dim=-1).clamp_min(1e-12)
        along = offsets @ frusta.cameras.camera_to_world[index, :, 2]
        angles = (along / distances).clamp(-1.0, 1.0).acos()
        half_widths = (self.radii / distances).clamp_max(1.0).asin()
        is_near = (distances <= self.radii) | (angles <= frusta.half_angles[index] + half_widths)
        return is_near.nonzero()[:, 0]

    def points_of(self, cells: Int[Tensor, "cells"]) -> Int[Tensor, "points"]:
        """Return the points of cells, as positions in `order`."""
        counts = self.counts[cells]
        first = counts.cumsum(0) - counts
        return torch.arange(int(counts.sum())) + (self._starts[cells] - first).repeat_interleave(counts)


def _cell_numbers(points: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, "points"]:
    """Return the number of each point's cell in a grid of cubes over the points."""
    low = points.min(0).astype(np.float64)
    extents = points.max(0) - low
    # Points cover surfaces: on two axes, this many cells have the mean number of points.
    count = math.sqrt(max(1.0, len(points) / POINTS_PER_CELL))
    side = max(float(np.sort(extents)[1:].prod()) ** 0.5, float(extents.max()) / MAX_ELONGATION, 1e-9) / count
    cells = ((points - low) / side).astype(np.int64)
    shape = cells.max(0) + 1
    return (cells[:, 0] * shape[1] + cells[:, 1]) * shape[2] + cells[:, 2]
