"""Sparse depths of images, from points of structure from motion or LiDAR."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.points import PointCloud
from blocknerf.training.depth_buffer import DepthBuffer
from blocknerf.view_frusta import PointCells, ViewFrusta

FIRST_POINTS, GROWTH = 1 << 14, 4
"""Points of the nearest cells that are looked at first, and how many times as many next."""
SPACING_SAMPLES = 4000
"""Points in which the spacing is measured: enough for a median within a few percent."""
COLOR_TOLERANCE = 40.0
"""Maximum mean channel difference, of 255; above differences in exposure and shading, below those between objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseDepth:
    """Measured depths of one image."""

    pixels: Float[Tensor, "points 2"]
    """Image positions (x, y)."""
    distances: Float[Tensor, "points"]
    """Distance from the camera along the ray, in world units."""
    points: Float[Tensor, "points 3"]
    """World coordinates."""


def median_point_spacing(positions: Float[np.ndarray, "points 3"]) -> float:
    """Return the median distance from a point to its third-nearest neighbor."""
    step = max(1, len(positions) // SPACING_SAMPLES)
    # Unbalanced trees are built several times faster, and search as fast.
    tree = cKDTree(positions, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(positions[::step], k=min(4, len(positions)))
    return float(np.median(distances[:, -1])) if distances.ndim == 2 else 0.0


def distances_in_view(points: Float[Tensor, "points 3"], cameras: Cameras, index: int) -> Float[Tensor, "inside"]:
    """Return the distances, in world units, of the points in one camera's view, including occluded points."""
    _, _, inside = cameras.project(points, index)
    return (points[inside] - cameras.centers[index]).norm(dim=-1)


class DepthCloud:
    """Points that measure depths, sorted into cells, so that an image costs what it sees and not the whole city."""

    def __init__(self, cloud: PointCloud, spacing: float | None = None) -> None:
        self.spacing = median_point_spacing(cloud.positions) if spacing is None else spacing
        """Typical distance between neighboring points, in world units."""
        positions = torch.from_numpy(cloud.positions)
        self._cells = PointCells(positions)
        self._positions = positions[self._cells.order]
        self._colors = None if cloud.colors is None else torch.from_numpy(cloud.colors)[self._cells.order]

    def __len__(self) -> int:
        return len(self._positions)

    def project(
        self, frusta: ViewFrusta, index: int, image: UInt8[np.ndarray, "height width 3"] | None = None
    ) -> SparseDepth:
        """Return the points visible in one camera with their distances, in the order of the cloud.

        Occluded points are dropped (`DepthBuffer`), as are those so near that they would occlude more than its
        coarsest cells. If `image` is given, points with a color different from their pixel are dropped as well: they
        are occluded, or belong to something that moved.
        """
        cameras = frusta.cameras
        buffer = DepthBuffer(
            width=int(cameras.width[index]),
            height=int(cameras.height[index]),
            focal=cameras.intrinsics[index, 0],
            spacing=self.spacing,
        )
        parts = list(self._unoccluded(frusta, index, image, buffer))
        found, pixels, z_depth = (torch.cat(columns) for columns in zip(*parts, strict=True))
        visible = buffer.is_visible(pixels, z_depth).nonzero()[:, 0]
        in_order = visible[self._cells.order[found[visible]].argsort()]
        points = self._positions[found[in_order]]
        distances = (points - cameras.centers[index]).norm(dim=-1)
        return SparseDepth(pixels=pixels[in_order], distances=distances, points=points)

    def _unoccluded(
        self, frusta: ViewFrusta, index: int, image: UInt8[np.ndarray, "height width 3"] | None, buffer: DepthBuffer
    ) -> Iterator[tuple[Int[Tensor, "points"], Float[Tensor, "points 2"], Float[Tensor, "points"]]]:
        """Yield points in view with their pixels and depths, and write them to the buffer, nearest cells first.

        Cells behind what was written already are left out.
        """
        cameras, counts = frusta.cameras, self._cells.counts
        cells = self._cells.in_view(frusta, index)
        z_depth = self._nearest_depths(cameras, index, cells)
        order = z_depth.argsort()
        cells, z_depth, size = cells[order], z_depth[order], FIRST_POINTS
        while True:
            count = max(1, int(torch.searchsorted(counts[cells].cumsum(0), size)))
            part = self._in_view(cells[:count], cameras, index, image, buffer)
            buffer.write(*part[1:])
            yield part
            cells, z_depth, size = cells[count:], z_depth[count:], GROWTH * size
            if len(cells) == 0:
                return
            kept = self._may_be_visible(frusta, index, cells, z_depth, buffer)
            cells, z_depth = cells[kept], z_depth[kept]

    def _nearest_depths(self, cameras: Cameras, index: int, cells: Int[Tensor, "cells"]) -> Float[Tensor, "cells"]:
        """Return a lower bound of the depths in each cell, along the optical axis."""
        offsets = self._cells.centers[cells] - cameras.centers[index]
        return offsets @ cameras.camera_to_world[index, :, 2] - self._cells.radii[cells]

    def _in_view(
        self,
        cells: Int[Tensor, "cells"],
        cameras: Cameras,
        index: int,
        image: UInt8[np.ndarray, "height width 3"] | None,
        buffer: DepthBuffer,
    ) -> tuple[Int[Tensor, "points"], Float[Tensor, "points 2"], Float[Tensor, "points"]]:
        """Return the points in view of some cells, occluded or not, with their pixels and depths."""
        points = self._cells.points_of(cells)
        pixels, z_depth, inside = cameras.project(self._positions.index_select(0, points), index)
        kept = (inside & buffer.is_resolved(z_depth)).nonzero()[:, 0]
        points, pixels, z_depth = (values.index_select(0, kept) for values in (points, pixels, z_depth))
        if image is not None and self._colors is not None:
            kept = _color_agrees(self._colors.index_select(0, points), pixels, image).nonzero()[:, 0]
            points, pixels, z_depth = (values.index_select(0, kept) for values in (points, pixels, z_depth))
        return points, pixels, z_depth

    def _may_be_visible(
        self,
        frusta: ViewFrusta,
        index: int,
        cells: Int[Tensor, "cells"],
        z_depth: Float[Tensor, "cells"],
        buffer: DepthBuffer,
    ) -> Bool[Tensor, "cells"]:
        """Return which cells are not certainly behind what was written to the buffer."""
        centers = self._cells.centers[cells]
        pixels, _, inside = frusta.cameras.project(centers, index)
        distances = (centers - frusta.cameras.centers[index]).norm(dim=-1).clamp_min(1e-12)
        half_widths = (self._cells.radii[cells] / distances).clamp_max(1.0).asin()
        # A cell around the edge of the image has its center outside.
        kept = torch.ones(len(cells), dtype=torch.bool)
        reach = half_widths[inside] * frusta.pixels_per_radian[index]
        kept[inside] = buffer.may_be_visible(pixels[inside], reach, z_depth[inside])
        return kept


def _color_agrees(
    colors: UInt8[Tensor, "points 3"], pixels: Float[Tensor, "points 2"], image: UInt8[np.ndarray, "height width 3"]
) -> Bool[Tensor, "points"]:
    column, row = pixels.long().unbind(-1)
    image_colors = torch.from_numpy(image).view(-1, 3).index_select(0, row * image.shape[1] + column)
    return (image_colors.float() - colors.float()).abs().mean(-1) < COLOR_TOLERANCE
