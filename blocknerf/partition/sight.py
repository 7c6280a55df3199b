"""How much of each photograph shows each block."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.partition.block import Block
from blocknerf.partition.footprint import ground_height
from blocknerf.partition.survey import Survey, thinned_points

POINTS_PER_BLOCK = 200
POINTS = (8_000, 20_000)
"""Fewest and most points looked at: a share is then good to a few per cent, and 10,000 frames take seconds."""
REACH = 2.0
"""Radii; what lies farther from a camera is background to any block, unless the camera looks down from afar."""
CHUNK = 64


def sight_shares(survey: Survey, blocks: Sequence[Block]) -> Float[Tensor, "frames blocks"]:
    """Share of what each frame sees within reach that lies in each block, 0 to 1 (blocks overlap).

    What a frame sees is the points in its view, occluded or not: structure from motion keeps few points
    behind walls. Where it sees none, or the capture has none, samples of its own view take their place.
    """
    reach = float("inf") if survey.looks_down else REACH * max(block.radius for block in blocks)
    shares = _of_view(survey, blocks, reach)
    if survey.points is None:
        return shares
    few = thinned_points(survey.points, min(max(POINTS_PER_BLOCK * len(blocks), POINTS[0]), POINTS[1]))
    inside = _inside(few, blocks)
    for first in range(0, len(survey), CHUNK):
        frames = range(first, min(first + CHUNK, len(survey)))
        near = _near(few, survey.centers[list(frames)], reach)
        seen = torch.stack([_in_view(survey, i, few[near], reach) for i in frames])
        total = seen.sum(-1, keepdim=True)
        counted = (seen @ inside[near]) / total.clamp_min(1.0)
        shares[list(frames)] = torch.where(total > 0, counted, shares[list(frames)])
    return shares


def _inside(points: Float[Tensor, "points 3"], blocks: Sequence[Block]) -> Float[Tensor, "points blocks"]:
    return torch.stack([block.contains(points) for block in blocks], -1).float()


def _near(points: Tensor, centers: Tensor, reach: float) -> Tensor:
    """Indices of the points that any of these cameras can reach."""
    middle = centers.mean(0)
    spread = (centers - middle).norm(dim=-1).max()
    return ((points - middle).norm(dim=-1) <= reach + spread).nonzero()[:, 0]


def _in_view(survey: Survey, index: int, points: Float[Tensor, "points 3"], reach: float) -> Float[Tensor, "points"]:
    _, _, visible = survey.cameras.project(points, index)
    return (visible & ((points - survey.centers[index]).norm(dim=-1) <= reach)).float()


def _of_view(survey: Survey, blocks: Sequence[Block], reach: float) -> Float[Tensor, "frames blocks"]:
    """Shares of samples spread through each frame's own view, for want of points."""
    samples = view_samples(survey, reach)
    shares = [block.contains(samples.reshape(-1, 3)).view(samples.shape[:2]).float().mean(-1) for block in blocks]
    return torch.stack(shares, -1)


def view_samples(survey: Survey, reach: float) -> Float[Tensor, "frames samples 3"]:
    """Positions that each frame may see: along 5 x 3 rays, on the ground where they meet it, else spread to `reach`."""
    cameras, count = survey.cameras, len(survey)
    across, down = torch.meshgrid(torch.linspace(0.1, 0.9, 5), torch.linspace(0.1, 0.9, 3), indexing="xy")
    grid = torch.stack([across, down], -1).reshape(-1, 2)
    pixels = grid * torch.stack([cameras.width, cameras.height], -1)[:, None]
    rays = cameras.rays(torch.arange(count).repeat_interleave(len(grid)), pixels.reshape(-1, 2))
    directions = rays.directions.view(count, -1, 1, 3)
    fall = (-directions[..., 2]).clamp_min(1e-6)
    ground = (survey.centers[:, 2] - ground_height(survey)).clamp_min(0.0)[:, None, None] / fall
    farthest = reach if reach < float("inf") else 4.0 * survey.extent
    depths = torch.minimum(torch.tensor([0.25, 0.5, 0.75, 1.0]) * farthest, ground)
    return (survey.centers[:, None, None] + directions * depths[..., None]).flatten(1, 2)
