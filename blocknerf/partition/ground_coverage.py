"""The ground that a capture's cameras see, as positions in plan to be covered by blocks."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import frustum_corners
from blocknerf.partition.capture_geometry import CaptureGeometry

CELLS = (8, 96)
"""Fewest and most cells along the longer side of the footprint."""
FRUSTUM_CELLS = 48
MIN_POINTS = 3
"""A cell with fewer sparse points is taken for outliers."""
MIN_DOWN_SLOPE = 0.2
"""Rays that fall less than this per unit of length meet the ground too far off to count as seen."""


def ground_cells(survey: CaptureGeometry) -> Float[Tensor, "cells 2"]:
    """Centres of the plan's cells that the cameras see, and where each downward optical axis meets the ground.

    From the points where there are any, without stray ones; else from the frusta cut by the ground plane.
    """
    gaze = look_at_points(survey)[hits_ground(survey)]
    seen = _inner_points(survey.points)[:, :2] if survey.points is not None else _seen_ground(survey)
    if len(seen) == 0:
        return survey.centers[:, :2]
    # Points need cells wide enough to tell the dense from the stray; samples of frusta are all alike.
    count = min(max(math.isqrt(len(seen)) // 4, CELLS[0]), CELLS[1]) if survey.points is not None else FRUSTUM_CELLS
    side = float((seen.amax(0) - seen.amin(0)).max()) / count
    cells, counts = torch.unique(((seen - seen.amin(0)) / max(side, 1e-9)).floor(), dim=0, return_counts=True)
    busy = counts >= MIN_POINTS if survey.points is not None else counts >= 1
    return torch.cat([(cells[busy] + 0.5) * side + seen.amin(0), gaze])


def ground_height(survey: CaptureGeometry) -> float:
    """Height of the ground: the points' median, or for a capture without points an estimate.

    Without points, metric captures are taken to have their ground at zero where the cameras are above it;
    otherwise the ground is one extent of the camera positions below the lowest camera.
    """
    if survey.points is not None:
        return float(survey.points[:, 2].median())
    lowest = float(survey.centers[:, 2].min())
    return 0.0 if survey.is_metric and lowest > 0 else lowest - survey.extent


def hits_ground(survey: CaptureGeometry) -> Bool[Tensor, "frames"]:
    """Which frames' optical axes meet the ground at a steep enough angle to say where."""
    return (survey.forwards[:, 2] < -MIN_DOWN_SLOPE) & (survey.centers[:, 2] > ground_height(survey))


def look_at_points(survey: CaptureGeometry) -> Float[Tensor, "frames 2"]:
    """Where each optical axis meets the ground, in plan; the camera's own position where it does not."""
    drop = (survey.centers[:, 2] - ground_height(survey)).clamp_min(0.0)
    along = drop / (-survey.forwards[:, 2]).clamp_min(MIN_DOWN_SLOPE)
    ground = survey.centers + survey.forwards * along[:, None]
    return torch.where(hits_ground(survey)[:, None], ground, survey.centers)[:, :2]


def common_look_at(survey: CaptureGeometry) -> Float[Tensor, "3"] | None:
    """The point that all cameras look at, as around one object; None where they look in various ways.

    It is the least-squares meeting point of the optical axes. It counts as one object's when the axes are
    far from parallel, and nine in ten cameras see it within 30 degrees of their axis.
    """
    centers, forwards = survey.centers.double(), survey.forwards.double()
    across = torch.eye(3, dtype=torch.float64) - forwards[:, :, None] * forwards[:, None, :]
    mean = across.mean(0)
    if float(torch.linalg.eigvalsh(mean)[0]) < 0.05:
        return None
    point = torch.linalg.solve(mean, (across @ centers[:, :, None]).mean(0)[:, 0])
    toward = torch.nn.functional.normalize(point - centers, dim=-1)
    ahead = (toward * forwards).sum(-1) > 0.866
    return point.to(survey.centers) if float(ahead.double().mean()) >= 0.9 else None


def _inner_points(points: Float[Tensor, "points 3"]) -> Float[Tensor, "inner 3"]:
    """The points without the outermost hundredth on each side of each axis."""
    few = points if len(points) <= 100_000 else points[:: len(points) // 100_000]
    low, high = (torch.quantile(few, share, dim=0) for share in (0.01, 0.99))
    return points[((points >= low) & (points <= high)).all(-1)]


def _seen_ground(survey: CaptureGeometry) -> Float[Tensor, "samples 2"]:
    """Positions of an even 7 x 7 grid of each image, pushed along their rays to the ground."""
    corners = frustum_corners(survey.cameras, 1.0) - survey.centers[:, None]
    across = torch.linspace(0.0, 1.0, 7)
    right, down = torch.meshgrid(across, across, indexing="xy")
    weights = torch.stack([(1 - right) * (1 - down), right * (1 - down), right * down, (1 - right) * down], -1)
    rays = torch.nn.functional.normalize(torch.einsum("hwc,fcx->fhwx", weights, corners), dim=-1).flatten(1, 2)
    drop = (survey.centers[:, 2] - ground_height(survey)).clamp_min(0.0)
    ground = survey.centers[:, None] + rays * (drop[:, None] / (-rays[..., 2]).clamp_min(1e-6))[..., None]
    return ground[rays[..., 2] < -MIN_DOWN_SLOPE][:, :2]
