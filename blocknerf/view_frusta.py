"""Which points cameras see: for many cameras together, or many points in cells; time depends on what is near."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras

PAIRS = 1 << 20
"""Pairs of a camera and a point that are computed together."""
LENS_GRID = 17
"""Points along each side of an image at which the angle of view is measured."""
ANGLE_MARGIN = 0.05
"""Radians that the cone around a view is wider than the grid says."""
DENSITY_MARGIN = 1.5
"""Factor by which rays may move farther in the image than between the positions of the grid."""
ROUNDING = 0.01
"""Fraction of the distances involved by which the cone is moved outward; single precision rounds by far less."""
POINTS_PER_CELL = 128
"""Mean number of points in a cell of flat ground."""
MAX_ELONGATION = 1000.0
"""Largest ratio of the points' longest extent to the side that their cells are derived from."""
SPHERE_MARGIN = 1e-6
"""Fraction of the coordinates by which the spheres are larger."""


class ViewFrusta:
    """The view frusta of cameras, each enclosed by a cone around its optical axis."""

    def __init__(self, cameras: Cameras) -> None:
        self.cameras = cameras
        self._distortion = cameras.distortion_info()
        self.half_angles, self.pixels_per_radian = _measure_lenses(cameras)
        """Of each camera: the angle between optical axis and side of its cone; how far a ray moves in the image."""

    def visible(
        self, indices: Int[Tensor, "views"], points: Float[Tensor, "points 3"], max_distance: float = math.inf
    ) -> Iterator[tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]]:
        """Yield the pairs of a camera, as a position in `indices`, and a point in its view and range, in chunks."""
        step = max(1, PAIRS // max(1, len(points)))
        for start in range(0, len(indices) if len(points) else 0, step):
            chunk = indices[start : start + step]
            rows, columns = self._in_cones(chunk, points, max_distance).nonzero(as_tuple=True)
            views, near = chunk[rows], points[columns]
            _, _, inside = self.cameras.project(near, views, self._distortion)
            seen = inside & ((near - self.cameras.centers[views]).norm(dim=-1) <= max_distance)
            yield start + rows[seen], columns[seen]

    def _in_cones(
        self, indices: Int[Tensor, "views"], points: Float[Tensor, "points 3"], max_distance: float
    ) -> Bool[Tensor, "views points"]:
        """Return which points may be in view; all that are, and a few more."""
        poses = self.cameras.camera_to_world[indices]
        center = points.mean(0)
        origins, axes, local = poses[:, :, 3] - center, poses[:, :, 2], points - center
        # Distances by matrix products round more than differences do, but are many times faster.
        squared = local.square().sum(-1) - 2.0 * origins @ local.T + origins.square().sum(-1, keepdim=True)
        distances = squared.clamp_min_(0.0).sqrt_()
        along = axes @ local.T - (axes * origins).sum(-1, keepdim=True)
        slack = ROUNDING * float(distances.max())
        in_cone = along + slack >= self.half_angles[indices].cos()[:, None] * distances
        return in_cone & (distances <= max_distance + slack)


def _measure_lenses(cameras: Cameras) -> tuple[Float[Tensor, "cameras"], Float[Tensor, "cameras"]]:
    """Return `half_angles` and `pixels_per_radian`, from a grid of rays through the image of each distinct lens."""
    size = torch.stack([cameras.width, cameras.height], -1)
    lenses = torch.cat([cameras.intrinsics, cameras.distortion, cameras.model[:, None], size], -1)
    _, lens_of_camera = torch.unique(lenses, dim=0, return_inverse=True)
    examples = torch.zeros(int(lens_of_camera.max()) + 1, dtype=torch.int64)
    examples[lens_of_camera] = torch.arange(len(cameras))
    fractions = torch.linspace(0.0, 1.0, LENS_GRID)
    grid = torch.cartesian_prod(fractions, fractions)
    rays = cameras.rays(examples.repeat_interleave(len(grid)), (grid * size[examples][:, None]).flatten(0, 1))
    directions = rays.directions.view(len(examples), LENS_GRID, LENS_GRID, 3)
    axes = cameras.camera_to_world[examples, :, 2]
    half_angles = torch.einsum("lxyc,lc->lxy", directions, axes).clamp(-1.0, 1.0).acos().amax((1, 2))
    steps = size[examples].float() / (LENS_GRID - 1)
    densities = [
        steps[:, axis] / directions.diff(dim=axis + 1).norm(dim=-1).amin((1, 2)).clamp_min(1e-12) for axis in (0, 1)
    ]
    half_angles = (half_angles + ANGLE_MARGIN).clamp_max(math.pi)
    return half_angles[lens_of_camera], DENSITY_MARGIN * torch.maximum(*densities)[lens_of_camera]


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
        self.radii = torch.from_numpy(np.linalg.norm(high - low, axis=-1) / 2 + SPHERE_MARGIN * np.abs(ordered).max())

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
