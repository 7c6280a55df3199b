"""Sparse depths in photographs, from points of structure from motion or LiDAR."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import cKDTree
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.points import PointCloud

PYRAMID_LEVELS = 5
OCCLUSION_MARGIN = 0.08
"""A point is hidden when something stands nearer than this share of its depth, less one point spacing."""
SPACING_SAMPLES = 4000
COLOR_TOLERANCE = 40.0
"""Mean difference of the channels, of 255: more than exposure and shading make, less than another thing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseDepth:
    """Measured depths in one photograph."""

    pixels: Float[Tensor, "points 2"]
    """Image positions (x, y)."""
    distances: Float[Tensor, "points"]
    """Distance from the camera along the ray, in world units."""
    points: Float[Tensor, "points 3"]
    """Where they are in the world."""


def median_point_spacing(positions: Float[np.ndarray, "points 3"]) -> float:
    """Typical distance between neighbouring points."""
    step = max(1, len(positions) // SPACING_SAMPLES)
    distances, _ = cKDTree(positions).query(positions[::step], k=min(4, len(positions)))
    return float(np.median(distances[:, -1])) if distances.ndim == 2 else 0.0


def distances_in_view(points: Float[Tensor, "points 3"], cameras: Cameras, index: int) -> Float[Tensor, "inside"]:
    """Distances, in world units, of the points that lie within one camera's view, hidden or not."""
    _, _, inside = cameras.project(points, index)
    return (points[inside] - cameras.centers[index]).norm(dim=-1)


def project_depths(
    cloud: PointCloud,
    cameras: Cameras,
    index: int,
    spacing: float,
    image: UInt8[np.ndarray, "height width 3"] | None = None,
) -> SparseDepth:
    """The points that one camera sees, with their distances; points behind nearer ones are left out.

    A cloud has gaps, so each point hides a disc about `spacing` wide: it is entered into the level of a
    pyramid of depth buffers whose cell has that size in the image. Points so near that their disc would be
    larger than the coarsest cell are not used. With the photograph, so are points whose color it does not show
    there: they are hidden, or traces of something that moved.
    """
    points = torch.from_numpy(cloud.positions)
    pixels, z_depth, inside = cameras.project(points, index)
    inside &= cameras.intrinsics[index, 0] * spacing < 2.0 ** (PYRAMID_LEVELS - 1) * z_depth
    if image is not None and cloud.colors is not None:
        inside[inside.clone()] = _color_agrees(torch.from_numpy(cloud.colors)[inside], pixels[inside], image)
    pixels, z_depth, points = pixels[inside], z_depth[inside], points[inside]
    nearest = _occluding_depth(pixels, z_depth, cameras, index, spacing)
    seen = z_depth <= nearest * (1.0 + OCCLUSION_MARGIN) + spacing
    distances = (points[seen] - cameras.centers[index]).norm(dim=-1)
    return SparseDepth(pixels=pixels[seen], distances=distances, points=points[seen])


def _color_agrees(
    colors: UInt8[Tensor, "points 3"], pixels: Float[Tensor, "points 2"], image: UInt8[np.ndarray, "height width 3"]
) -> Bool[Tensor, "points"]:
    column, row = pixels.long().unbind(-1)
    shown = torch.from_numpy(image)[row, column]
    return (shown.float() - colors.float()).abs().mean(-1) < COLOR_TOLERANCE


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
