"""Overlap of views and blocks: the fraction of each frame's view that each block fills."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, subsample_points
from blocknerf.partitioning.ground_coverage import ground_height

POINTS_PER_BLOCK = 200
POINTS = (8_000, 20_000)
"""Minimum and maximum number of points; fractions are then accurate to a few percent, 10,000 frames take seconds."""
VISIBILITY_RANGE = 2.0
"""Maximum distance (in radii) of visible points; farther ones are background, except for aerial captures."""
CHUNK = 64


def view_overlap(geometry: CaptureGeometry, blocks: Sequence[Block]) -> Float[Tensor, "frames blocks"]:
    """Return the fraction, 0..1, of each frame's view in range that is inside each block (blocks overlap).

    A view is the points inside the frustum, occluded or not: structure from motion has few points behind walls.
    Frames without such points use samples of the view frustum.
    """
    max_distances = [float("inf") if geometry.is_aerial else VISIBILITY_RANGE * block.radius for block in blocks]
    fractions = torch.full((len(geometry), len(blocks)), math.nan)
    if geometry.points is not None:
        points = subsample_points(geometry.points, min(max(POINTS_PER_BLOCK * len(blocks), POINTS[0]), POINTS[1]))
        inside = torch.stack([block.contains(points) for block in blocks], -1).float()
        for start in range(0, len(geometry), CHUNK):
            frames = list(range(start, min(start + CHUNK, len(geometry))))
            near = _near(points, geometry.centers[frames], max(max_distances))
            distances = torch.stack([_distances_in_view(geometry, i, points[near]) for i in frames])
            fractions[frames] = _fractions_in_blocks(distances, inside[near], max_distances)
    _fill_without_points(fractions, geometry, blocks, max_distances)
    return fractions


def _fractions_in_blocks(
    distances: Float[Tensor, "frames points"], inside: Float[Tensor, "points blocks"], max_distances: Sequence[float]
) -> Float[Tensor, "frames blocks"]:
    """Return the fraction of the points in view and in range that are inside each block; NaN where there are none."""
    fractions = torch.empty(len(distances), len(max_distances))
    for max_distance in set(max_distances):
        columns = [i for i, other in enumerate(max_distances) if other == max_distance]
        # Points out of view have infinite distance; they do not count even if the range is infinite.
        in_view = ((distances <= max_distance) & distances.isfinite()).float()
        fractions[:, columns] = (in_view @ inside[:, columns]) / in_view.sum(-1, keepdim=True)
    return fractions


def _fill_without_points(
    fractions: Float[Tensor, "frames blocks"],
    geometry: CaptureGeometry,
    blocks: Sequence[Block],
    max_distances: Sequence[float],
) -> None:
    """Replace NaN by fractions of samples of the frame's view frustum."""
    for max_distance in set(max_distances):
        columns = [i for i, other in enumerate(max_distances) if other == max_distance]
        missing = fractions[:, columns].isnan().any(-1).nonzero()[:, 0]
        samples = sample_view_points(geometry, missing, max_distance)
        for i in columns:
            inside = blocks[i].contains(samples.flatten(0, 1)).view(samples.shape[:2])
            fractions[missing, i] = inside.float().mean(-1)


def _near(points: Tensor, centers: Tensor, max_distance: float) -> Tensor:
    """Return the indices of the points within range of any of these cameras."""
    center = centers.mean(0)
    radius = (centers - center).norm(dim=-1).max()
    return ((points - center).norm(dim=-1) <= max_distance + radius).nonzero()[:, 0]


def _distances_in_view(
    geometry: CaptureGeometry, index: int, points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points"]:
    """Return the distance of each point from a camera; infinite if it is out of view."""
    _, _, visible = geometry.cameras.project(points, index)
    return torch.where(visible, (points - geometry.centers[index]).norm(dim=-1), math.inf)


def sample_view_points(
    geometry: CaptureGeometry, frames: Int[Tensor, "frames"], max_distance: float
) -> Float[Tensor, "frames samples 3"]:
    """Return view frustum samples: along 8 x 6 rays per frame, up to the ground or `max_distance`."""
    right, down = torch.meshgrid((torch.arange(8) + 0.5) / 8, (torch.arange(6) + 0.5) / 6, indexing="xy")
    grid = torch.stack([right, down], -1).reshape(-1, 2)
    size = torch.stack([geometry.cameras.width, geometry.cameras.height], -1)[frames]
    rays = geometry.cameras.rays(frames.repeat_interleave(len(grid)), (grid * size[:, None]).reshape(-1, 2))
    directions = rays.directions.view(len(frames), len(grid), 1, 3)
    descent = (-directions[..., 2]).clamp_min(1e-6)
    ground = (geometry.centers[frames, 2] - ground_height(geometry)).clamp_min(0.0)[:, None, None] / descent
    depths = torch.minimum(torch.tensor([0.25, 0.5, 0.75, 1.0]) * max_distance, ground)
    return (geometry.centers[frames, None, None] + directions * depths[..., None]).flatten(1, 2)
