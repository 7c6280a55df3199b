"""Occlusion among the points in one view, by a pyramid of depth buffers."""

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter
from torch import Tensor

LEVELS = 5
"""Buffers with cells of 1, 2, 4, 8 and 16 pixels."""
OCCLUSION_MARGIN = 0.08
"""A point is occluded if it is behind the nearest depth by more than this fraction of it plus one point spacing."""
TILE = 1 << (LEVELS - 1)
WINDOWS = (1, 2, 4)
"""Tiles on each side of a position that a region around it may extend to."""


class DepthBuffer:
    """The depth at each pixel of one image beyond which points are occluded.

    A point cloud has gaps, so each point occludes a disc about `spacing` wide: it is written to the level with cells of
    that size in the image. Occluded points need not be written: the cells of their occluders contain theirs.
    """

    def __init__(self, *, width: int, height: int, focal: Float[Tensor, ""], spacing: float) -> None:
        self._focal, self._spacing = focal, spacing
        self._shapes = [((height >> level) + 1, (width >> level) + 1) for level in range(LEVELS)]
        self._sizes = [rows * columns for rows, columns in self._shapes]
        self._columns = torch.tensor([columns for _, columns in self._shapes])
        self._starts = torch.tensor([sum(self._sizes[:level]) for level in range(LEVELS)])
        self._cells = torch.full((sum(self._sizes),), float("inf"))
        self._nearest = torch.full(self._shapes[0], float("inf"))

    def is_resolved(self, z_depth: Float[Tensor, "points"]) -> Bool[Tensor, "points"]:
        """Return which points are far enough away for the coarsest cells."""
        return self._focal * self._spacing < TILE * z_depth

    def write(self, pixels: Float[Tensor, "points 2"], z_depth: Float[Tensor, "points"]) -> None:
        """Write the depths of points at image positions (x, y) inside the image."""
        footprint = (self._focal * self._spacing / z_depth).clamp_min(1.0)
        level = footprint.log2().ceil().long().clamp(0, LEVELS - 1)
        column, row = pixels.long().unbind(-1)
        cells = self._starts[level] + (row >> level) * self._columns[level] + (column >> level)
        self._cells.scatter_reduce_(0, cells, z_depth, "amin")
        levels = [cells.view(shape) for cells, shape in zip(self._cells.split(self._sizes), self._shapes, strict=True)]
        nearest = levels[-1]
        for level_cells in reversed(levels[:-1]):
            # A cell is covered by the one around it at the coarser level.
            rows, columns = level_cells.shape
            around = nearest.repeat_interleave(2, 0).repeat_interleave(2, 1)[:rows, :columns]
            nearest = torch.minimum(around, level_cells)
        self._nearest = nearest

    def is_visible(self, pixels: Float[Tensor, "points 2"], z_depth: Float[Tensor, "points"]) -> Bool[Tensor, "points"]:
        """Return which points inside the image are not occluded by those that were written."""
        column, row = pixels.long().unbind(-1)
        return z_depth <= self._limit(self._nearest[row, column])

    def may_be_visible(
        self,
        pixels: Float[Tensor, "regions 2"],
        reach: Float[Tensor, "regions"],
        z_depth: Float[Tensor, "regions"],
    ) -> Bool[Tensor, "regions"]:
        """Return which regions may hold points that are visible.

        Args:
            pixels: Centers of the regions, inside the image.
            reach: How far, in pixels, a region extends from its center.
            z_depth: Nearest depth in each region.
        """
        padded = torch.full([tiles * TILE for tiles in self._shapes[-1]], -float("inf"))
        rows, columns = (side - 1 for side in self._shapes[0])
        padded[:rows, :columns] = self._nearest[:rows, :columns]
        tiles = padded.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)).amax((1, 3))
        column, row = (pixels / TILE).long().unbind(-1)
        visible = torch.ones_like(reach, dtype=torch.bool)
        for window in reversed(WINDOWS):
            filtered = maximum_filter(tiles.numpy(), size=2 * window + 1, mode="nearest")
            fits = reach < window * TILE
            limit = self._limit(torch.from_numpy(filtered)[row[fits], column[fits]])
            visible[fits] &= z_depth[fits] <= limit
        return visible

    def _limit(self, nearest: Float[Tensor, "points"]) -> Float[Tensor, "points"]:
        return nearest * (1.0 + OCCLUSION_MARGIN) + self._spacing
