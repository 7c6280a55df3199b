"""The ground that a capture's cameras see, as positions in the xy-plane to be covered by blocks."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import frustum_corners
from blocknerf.partitioning.capture_geometry import CaptureGeometry

CELLS = (8, 96)
"""Minimum and maximum number of cells along the longer side."""
FRUSTUM_CELLS = 48
MIN_POINTS = 3
"""Cells with fewer sparse points count as outliers."""
MIN_DESCENT = 0.2
"""Rays that descend less than this per unit of length hit the ground too far away to count as seen."""


def ground_cells(geometry: CaptureGeometry) -> Float[Tensor, "cells 2"]:
    """Return the centers of the ground cells that the cameras see, and where downward optical axes hit the ground.

    Seen ground is taken from the points without outliers, or else from the view frusta cut by the ground plane.
    """
    targets = look_at_points(geometry)[hits_ground(geometry)]
    points = _inner_points(geometry.points)[:, :2] if geometry.points is not None else _frustum_ground_samples(geometry)
    if len(points) == 0:
        return geometry.centers[:, :2]
    # Points need cells large enough to separate dense regions from outliers; frustum samples do not.
    count = min(max(math.isqrt(len(points)) // 4, CELLS[0]), CELLS[1]) if geometry.points is not None else FRUSTUM_CELLS
    side = float((points.amax(0) - points.amin(0)).max()) / count
    cells, counts = torch.unique(((points - points.amin(0)) / max(side, 1e-9)).floor(), dim=0, return_counts=True)
    dense = counts >= MIN_POINTS if geometry.points is not None else counts >= 1
    return torch.cat([(cells[dense] + 0.5) * side + points.amin(0), targets])


def ground_height(geometry: CaptureGeometry) -> float:
    """Return the ground height: the median of the points, or an estimate for a capture without points.

    The estimate is zero for metric captures with all cameras above zero; otherwise it is one extent of the camera
    positions below the lowest camera.
    """
    if geometry.points is not None:
        return float(geometry.points[:, 2].median())
    lowest = float(geometry.centers[:, 2].min())
    return 0.0 if geometry.is_metric and lowest > 0 else lowest - geometry.extent


def hits_ground(geometry: CaptureGeometry) -> Bool[Tensor, "frames"]:
    """Return which frames' optical axes hit the ground at a steep enough angle to locate the point."""
    return (geometry.forwards[:, 2] < -MIN_DESCENT) & (geometry.centers[:, 2] > ground_height(geometry))


def look_at_points(geometry: CaptureGeometry) -> Float[Tensor, "frames 2"]:
    """Return the xy-position where each optical axis hits the ground; the camera position where it does not."""
    height = (geometry.centers[:, 2] - ground_height(geometry)).clamp_min(0.0)
    along = height / (-geometry.forwards[:, 2]).clamp_min(MIN_DESCENT)
    ground = geometry.centers + geometry.forwards * along[:, None]
    return torch.where(hits_ground(geometry)[:, None], ground, geometry.centers)[:, :2]


def _inner_points(points: Float[Tensor, "points 3"]) -> Float[Tensor, "inner 3"]:
    """Return the points without the outermost 1 % on each side of each axis."""
    sample = points if len(points) <= 100_000 else points[:: len(points) // 100_000]
    low, high = (torch.quantile(sample, quantile, dim=0) for quantile in (0.01, 0.99))
    return points[((points >= low) & (points <= high)).all(-1)]


def _frustum_ground_samples(geometry: CaptureGeometry) -> Float[Tensor, "samples 2"]:
    """Return ground positions of a regular 7 x 7 grid of rays per image."""
    corners = frustum_corners(geometry.cameras, 1.0) - geometry.centers[:, None]
    steps = torch.linspace(0.0, 1.0, 7)
    right, down = torch.meshgrid(steps, steps, indexing="xy")
    weights = torch.stack([(1 - right) * (1 - down), right * (1 - down), right * down, (1 - right) * down], -1)
    rays = torch.nn.functional.normalize(torch.einsum("hwc,fcx->fhwx", weights, corners), dim=-1).flatten(1, 2)
    height = (geometry.centers[:, 2] - ground_height(geometry)).clamp_min(0.0)
    ground = geometry.centers[:, None] + rays * (height[:, None] / (-rays[..., 2]).clamp_min(1e-6))[..., None]
    return ground[rays[..., 2] < -MIN_DESCENT][:, :2]
