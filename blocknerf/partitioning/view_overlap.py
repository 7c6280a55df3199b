"""Overlap of views and blocks: the fraction of a street frame's view that a block fills."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, subsample_points
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.ground_coverage import ground_height
from blocknerf.view_frusta import ViewFrusta

POINTS_IN_REACH = 4_000
"""Maximum number of points around a block; fractions are then accurate to a few percent."""
VISIBILITY_RANGE = 2.0
"""Maximum distance (in radii) of visible points; farther ones are background, except for aerial captures."""
FRAMES_AT_ONCE = 1024
"""Frames with views that are sampled together."""


class StreetViews:
    """The views of the frames of a street capture, for their overlap with one block at a time."""

    def __init__(self, geometry: CaptureGeometry) -> None:
        self._geometry, self._frusta = geometry, ViewFrusta(geometry.cameras)
        self._points = None if geometry.points is None else PositionIndex(geometry.points)

    def overlap(self, block: Block, frames: Int[Tensor, "frames"]) -> Float[Tensor, "frames"]:
        """Return the fraction, 0..1, of each frame's view in range that is inside the block.

        A view is the points inside the frustum, occluded or not: structure from motion has few points behind walls.
        Frames without such points use samples of the view frustum.
        """
        max_distance = VISIBILITY_RANGE * block.radius
        points = self._points_in_reach(block, frames, max_distance)
        is_inside = block.contains(points)
        in_view, inside = torch.zeros(len(frames)), torch.zeros(len(frames))
        for rows, columns in self._frusta.visible(frames, points, max_distance):
            in_view += torch.bincount(rows, minlength=len(frames))
            inside += torch.bincount(rows[is_inside[columns]], minlength=len(frames))
        fractions = inside / in_view
        empty = (in_view == 0).nonzero()[:, 0]
        for rows, samples in sampled_views(self._geometry, frames, empty, max_distance):
            fractions[rows] = block.contains(samples.flatten(0, 1)).view(samples.shape[:2]).float().mean(-1)
        return fractions

    def _points_in_reach(
        self, block: Block, frames: Int[Tensor, "frames"], max_distance: float
    ) -> Float[Tensor, "points 3"]:
        """Return points that the frames may see, thinned to `POINTS_IN_REACH`."""
        if self._points is None or len(frames) == 0:
            return torch.zeros(0, 3)
        x, y, _ = block.origin
        offsets = self._geometry.centers[frames, :2] - torch.tensor([x, y])
        found = self._points.within((x, y), float(offsets.norm(dim=-1).max()) + max_distance)
        return self._points.positions[subsample_points(found, POINTS_IN_REACH)]


def sampled_views(
    geometry: CaptureGeometry, frames: Int[Tensor, "frames"], rows: Int[Tensor, "rows"], max_distance: float
) -> Iterator[tuple[Int[Tensor, "few"], Float[Tensor, "few samples 3"]]]:
    """Yield rows of `frames` with samples of their view frusta, in chunks."""
    for chunk in rows.split(FRAMES_AT_ONCE):
        if len(chunk):
            yield chunk, sample_view_points(geometry, frames[chunk], max_distance)


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
