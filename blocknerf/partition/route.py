"""Placement by route: origins at uniform spacing along the driven paths (Tancik et al. 2022, section 3.1)."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.partition.capture_geometry import CaptureGeometry

COVERED_RADIUS = 0.75
"""A path position this many radii from an origin needs no further block: origins one radius apart leave 0.5."""
MIN_GAP = 0.15
"""An uncovered end of a path this short (in radii) is not worth another block: it lies within 0.9 radii."""
STEPS_PER_RADIUS = 40
DEFAULT_BLOCKS = 4
FRAMES_PER_BLOCK = 250
"""Without a scale to go by, a long capture gets a block for every so many frames."""
MIN_FRAMES = 10
"""New frames a block should at least bring; a sparse walk gets larger blocks instead of starved ones."""
METRIC_RADII = (16.0, 60.0)
"""Metres: below, a car's frames are too few; above, a hash grid's cells are too coarse for a street."""


def place_route(paths: list[Float[Tensor, "_ 3"]], radius: float) -> Float[Tensor, "blocks 3"]:
    """Origins along the union of the paths: neighbours one radius apart (50 % overlap), no stretch served twice.

    Every path position lies within `radius` of an origin, in plan, and no two origins are closer than
    `COVERED_RADIUS` radii. Heights are the path's own.

    >>> street = torch.tensor([[0.0, 0.0, 2.0], [40.0, 0.0, 2.0]])
    >>> place_route([street, street + torch.tensor([0.0, 1.0, 0.0])], 10.0)[:, 0].tolist()
    [5.0, 15.0, 25.0, 35.0]
    """
    origins: list[Tensor] = []
    for path in sorted((resample(path, radius / STEPS_PER_RADIUS) for path in paths), key=len, reverse=True):
        away = path.new_full((len(path),), math.inf)
        for origin in origins:
            away = torch.minimum(away, (path - origin)[:, :2].norm(dim=-1))
        while (position := _next_position(path, away, radius)) is not None:
            origins.append(path[position])
            away = torch.minimum(away, (path - path[position])[:, :2].norm(dim=-1))
    return torch.stack(origins)


def first_origin_offset(length: float, radius: float, after_block: bool, before_block: bool) -> float:
    """How far into an uncovered stretch the first origin goes, so that neighbours end up at most a radius apart.

    A stretch begins (ends) `COVERED_RADIUS` radii from an origin where `after_block` (`before_block`) is true,
    and at an end of the path otherwise.
    """
    if after_block and before_block:
        gap = length + 2 * COVERED_RADIUS * radius
        parts = math.ceil(gap / radius - 1e-6)
        # Between two and 2.25 radii, three parts would crowd the blocks; two are an eighth too long at most.
        parts = parts if gap >= parts * COVERED_RADIUS * radius else parts - 1
        return max(0.0, gap / max(2, parts) - COVERED_RADIUS * radius)
    if after_block:
        return min(length, (1 - COVERED_RADIUS) * radius)
    if before_block:
        count = max(1, math.ceil(length / radius - 1e-6))
        return max(0.0, length - (1 - COVERED_RADIUS) * radius - (count - 1) * radius)
    count = max(1, round(length / radius))
    return (length - (count - 1) * radius) / 2


def default_radius(survey: CaptureGeometry) -> float:
    """A radius that divides the driven way into a few blocks, each with frames enough to train on.

    Metric captures stay within `METRIC_RADII` unless their frames are too sparse for it.
    """
    paths = [path for _, path in split_tracks(survey)]
    length = max(route_length(paths), survey.extent)
    if survey.is_metric:
        radius = min(max(length / DEFAULT_BLOCKS, METRIC_RADII[0]), METRIC_RADII[1])
    else:
        radius = length / max(DEFAULT_BLOCKS, len(survey) / FRAMES_PER_BLOCK)
    return max(radius, min(length, MIN_FRAMES * length / len(survey)))


def route_length(paths: list[Float[Tensor, "_ 3"]]) -> float:
    """Length of the ways driven, each counted once however many cameras, lanes and drives pass along it.

    That is a short spacing times the number of origins that `place_route` needs at it. A tenth of the plan's
    diagonal is short enough for a street's bends, and wider than the lanes of one.
    """
    corners = torch.cat(paths)[:, :2]
    diagonal = float((corners.amax(0) - corners.amin(0)).norm())
    return len(place_route(paths, diagonal / 10)) * diagonal / 10 if diagonal > 0 else 0.0


def split_tracks(survey: CaptureGeometry) -> list[tuple[str, Float[Tensor, "_ 3"]]]:
    """Segment and camera centres of each track, parted where the track jumps (a pause in recording)."""
    paths = []
    for indices in survey.sorted_tracks():
        segment = survey.tracks[indices[0]][0]
        centers = survey.centers[indices]
        steps = (centers[1:] - centers[:-1]).norm(dim=-1)
        moving = steps[steps > 1e-6 * survey.extent]
        longest = max(10 * float(moving.median()), 0.05 * survey.extent) if len(moving) else math.inf
        cuts = (steps > longest).nonzero()[:, 0] + 1
        paths += [(segment, part) for part in torch.tensor_split(centers, cuts.tolist())]
    return paths


def resample(path: Float[Tensor, "vertices 3"], step: float) -> Float[Tensor, "samples 3"]:
    """The path at even spacing of at most `step` in plan; jitter below `step` adds no length."""
    points = path.double().numpy()
    kept = [0]
    for i in range(1, len(points)):
        if math.dist(points[i, :2], points[kept[-1], :2]) >= step:
            kept.append(i)
    if kept[-1] != len(points) - 1 and len(kept) > 1:
        kept.append(len(points) - 1)
    vertices = points[kept]
    arc = np.concatenate([[0.0], np.linalg.norm(np.diff(vertices[:, :2], axis=0), axis=1).cumsum()])
    where = np.linspace(0.0, arc[-1], math.ceil(arc[-1] / step) + 1)
    return torch.from_numpy(np.stack([np.interp(where, arc, axis) for axis in vertices.T], -1)).to(path)


def _next_position(path: Tensor, away: Tensor, radius: float) -> int | None:
    """Sample of the path where its next origin goes, or None when it is covered."""
    step = float((path[1] - path[0])[:2].norm()) if len(path) > 1 else 0.0
    for first, last in _runs(away > COVERED_RADIUS * radius * (1 + 1e-6)):
        length = (last - first) * step
        after, before = first > 0, last < len(path) - 1
        if after != before and length <= MIN_GAP * radius:
            continue
        # From the last covered sample, so that rounding to samples never makes neighbors overlap less.
        return first - after + (int(first_origin_offset(length, radius, after, before) / step + 1e-6) if step else 0)
    return None


def _runs(marked: Tensor) -> list[tuple[int, int]]:
    """First and last index of every run of marked samples."""
    edges = np.diff(np.concatenate([[0], marked.numpy().astype(np.int8), [0]]))
    return list(zip((edges == 1).nonzero()[0].tolist(), ((edges == -1).nonzero()[0] - 1).tolist(), strict=True))
