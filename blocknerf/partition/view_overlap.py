"""How much of each photograph shows each block."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.partition.block import Block
from blocknerf.partition.capture_geometry import CaptureGeometry, subsample_points
from blocknerf.partition.ground_coverage import ground_height

POINTS_PER_BLOCK = 200
POINTS = (8_000, 20_000)
"""Fewest and most points looked at: a share is then good to a few per cent, and 10,000 frames take seconds."""
VISIBILITY_RANGE = 2.0
"""Radii; what lies farther from a camera is background to any block, unless the camera looks down from afar."""
CHUNK = 64


def view_overlap(survey: CaptureGeometry, blocks: Sequence[Block]) -> Float[Tensor, "frames blocks"]:
    """Share of what each frame sees within reach that lies in each block, 0 to 1 (blocks overlap).

    What a frame sees is the points in its view, occluded or not: structure from motion keeps few points
    behind walls. Where it sees none, or the capture has none, samples of its own view take their place.
    """
    reaches = [float("inf") if survey.is_aerial else VISIBILITY_RANGE * block.radius for block in blocks]
    shares = torch.full((len(survey), len(blocks)), math.nan)
    if survey.points is not None:
        few = subsample_points(survey.points, min(max(POINTS_PER_BLOCK * len(blocks), POINTS[0]), POINTS[1]))
        inside = torch.stack([block.contains(few) for block in blocks], -1).float()
        for first in range(0, len(survey), CHUNK):
            frames = list(range(first, min(first + CHUNK, len(survey))))
            near = _near(few, survey.centers[frames], max(reaches))
            seen = torch.stack([_distances_in_view(survey, i, few[near]) for i in frames])
            shares[frames] = _seen_fractions(seen, inside[near], reaches)
    _fill_without_points(shares, survey, blocks, reaches)
    return shares


def _seen_fractions(
    seen: Float[Tensor, "frames points"], inside: Float[Tensor, "points blocks"], reaches: Sequence[float]
) -> Float[Tensor, "frames blocks"]:
    """Share of the points seen within each block's reach that lie in it; NaN where none is seen."""
    shares = torch.empty(len(seen), len(reaches))
    for reach in set(reaches):
        alike = [i for i, other in enumerate(reaches) if other == reach]
        # Points out of view are infinitely far, which is beyond any reach, also an infinite one.
        counted = ((seen <= reach) & seen.isfinite()).float()
        shares[:, alike] = (counted @ inside[:, alike]) / counted.sum(-1, keepdim=True)
    return shares


def _fill_without_points(
    shares: Float[Tensor, "frames blocks"], survey: CaptureGeometry, blocks: Sequence[Block], reaches: Sequence[float]
) -> None:
    """Replace NaN by shares of samples spread through the frame's own view."""
    for reach in set(reaches):
        alike = [i for i, other in enumerate(reaches) if other == reach]
        blind = shares[:, alike].isnan().any(-1).nonzero()[:, 0]
        samples = sample_view_points(survey, blind, reach)
        for i in alike:
            within = blocks[i].contains(samples.flatten(0, 1)).view(samples.shape[:2])
            shares[blind, i] = within.float().mean(-1)


def _near(points: Tensor, centers: Tensor, reach: float) -> Tensor:
    """Indices of the points that any of these cameras can reach."""
    middle = centers.mean(0)
    spread = (centers - middle).norm(dim=-1).max()
    return ((points - middle).norm(dim=-1) <= reach + spread).nonzero()[:, 0]


def _distances_in_view(
    survey: CaptureGeometry, index: int, points: Float[Tensor, "points 3"]
) -> Float[Tensor, "points"]:
    """Distance of each point from a camera; infinite where the camera does not see it."""
    _, _, visible = survey.cameras.project(points, index)
    return torch.where(visible, (points - survey.centers[index]).norm(dim=-1), math.inf)


def sample_view_points(
    survey: CaptureGeometry, frames: Int[Tensor, "frames"], reach: float
) -> Float[Tensor, "frames samples 3"]:
    """Positions that frames may see: along 8 x 6 rays each, on the ground where they meet it, else up to `reach`."""
    across, down = torch.meshgrid((torch.arange(8) + 0.5) / 8, (torch.arange(6) + 0.5) / 6, indexing="xy")
    grid = torch.stack([across, down], -1).reshape(-1, 2)
    size = torch.stack([survey.cameras.width, survey.cameras.height], -1)[frames]
    rays = survey.cameras.rays(frames.repeat_interleave(len(grid)), (grid * size[:, None]).reshape(-1, 2))
    directions = rays.directions.view(len(frames), len(grid), 1, 3)
    fall = (-directions[..., 2]).clamp_min(1e-6)
    ground = (survey.centers[frames, 2] - ground_height(survey)).clamp_min(0.0)[:, None, None] / fall
    depths = torch.minimum(torch.tensor([0.25, 0.5, 0.75, 1.0]) * reach, ground)
    return (survey.centers[frames, None, None] + directions * depths[..., None]).flatten(1, 2)
