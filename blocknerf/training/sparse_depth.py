"""Sparse depths of images, from points of structure from motion or LiDAR."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.points import PointCloud

PYRAMID_LEVELS = 5
"""Depth buffers with cells of 1, 2, 4, 8 and 16 pixels."""
OCCLUSION_MARGIN = 0.08
"""A point is occluded if it is behind the nearest depth by more than this fraction of it plus one point spacing."""
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
    distances, _ = cKDTree(positions).query(positions[::step], k=min(4, len(positions)))
    return float(np.median(distances[:, -1])) if distances.ndim == 2 else 0.0


def distances_in_view(points: Float[Tensor, "points 3"], cameras: Cameras, index: int) -> Float[Tensor, "inside"]:
    """Return the distances, in world units, of the points in one camera's view, including occluded points."""
    _, _, inside = cameras.project(points, index)
    return (points[inside] - cameras.centers[index]).norm(dim=-1)


def project_depths(
    cloud: PointCloud,
    cameras: Cameras,
    index: int,
    spacing: float,
    image: UInt8[np.ndarray, "height width 3"] | None = None,
) -> SparseDepth:
    """Return the points visible in one camera with their distances; occluded points are dropped.

    A point cloud has gaps, so each point occludes a disc about `spacing` wide: it is written to the level of a
    pyramid of depth buffers with cells of that size in the image. Points so near that their disc would exceed the
    coarsest cell are dropped. If `image` is given, points with a color different from their pixel are dropped as
    well: they are occluded, or belong to something that moved.
    """
    points = torch.from_numpy(cloud.positions)
    pixels, z_depth, inside = cameras.project(points, index)
    inside &= cameras.intrinsics[index, 0] * spacing < 2.0 ** (PYRAMID_LEVELS - 1) * z_depth
    if image is not None and cloud.colors is not None:
        inside[inside.clone()] = _color_agrees(torch.from_numpy(cloud.colors)[inside], pixels[inside], image)
    pixels, z_depth, points = pixels[inside], z_depth[inside], points[inside]
    nearest = _occluding_depth(pixels, z_depth, cameras, index, spacing)
    visible = z_depth <= nearest * (1.0 + OCCLUSION_MARGIN) + spacing
    distances = (points[visible] - cameras.centers[index]).norm(dim=-1)
    return SparseDepth(pixels=pixels[visible], distances=distances, points=points[visible])


def _color_agrees(
    colors: UInt8[Tensor, "points 3"], pixels: Float[Tensor, "points 2"], image: UInt8[np.ndarray, "height width 3"]
) -> Bool[Tensor, "points"]:
    column, row = pixels.long().unbind(-1)
    image_colors = torch.from_numpy(image)[row, column]
    return (image_colors.float() - colors.float()).abs().mean(-1) < COLOR_TOLERANCE


def _occluding_depth(
    pixels: Float[Tensor, "points 2"], z_depth: Float[Tensor, "points"], cameras: Cameras, index: int, spacing: float
) -> Float[Tensor, "points"]:
    footprint = (cameras.intrinsics[index, 0] * spacing / z_depth).clamp_min(1.0)
    level = footprint.log2().ceil().long().clamp(0, PYRAMID_LEVELS - 1)
    nearest = torch.full_like(z_depth, float("inf"))
    for number in range(PYRAMID_LEVELS):
        cell = 2**number
        width = int(cameras.width[index]) // cell + 1
        height = int(cameras.height[index]) // cell + 1
        cells = (pixels[:, 1] / cell).long() * width + (pixels[:, 0] / cell).long()
        member = level == number
        buffer = z_depth.new_full((height * width,), float("inf"))
        buffer.scatter_reduce_(0, cells[member], z_depth[member], "amin")
        nearest = torch.minimum(nearest, buffer[cells])
    return nearest
