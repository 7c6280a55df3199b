"""Route placement: origins at uniform spacing along the driven paths (Tancik et al. 2022, section 3.1)."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.partitioning.capture_geometry import CaptureGeometry
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.path_thinning import spaced_positions

COVERED_RADIUS = 0.75
"""Path positions within this many radii of an origin are covered; origins one radius apart leave at most 0.5."""
MIN_GAP = 0.15
"""Maximum length (in radii) of an uncovered path end without another block; it stays within 0.9 radii."""
STEPS_PER_RADIUS = 40
DEFAULT_BLOCKS = 4
FRAMES_PER_BLOCK = 250
"""Captures without metric scale get one block per this many frames."""
MIN_FRAMES = 10
"""Minimum number of new frames per block; a sparse walk gets larger blocks instead of blocks with few frames."""
METRIC_RADII = (16.0, 60.0)
"""Meters: below, a car's frames are too few; above, a hash grid's cells are too coarse for a street."""


def place_route(paths: list[Float[Tensor, "_ 3"]], radius: float) -> Float[Tensor, "blocks 3"]:
    """Return origins along the union of the paths: neighbors one radius apart (50 % overlap), no part covered twice.

    Every path position is within `radius` of an origin horizontally, and no two origins are closer than
    `COVERED_RADIUS` radii. Heights are those of the path.

    >>> street = torch.tensor([[0.0, 0.0, 2.0], [40.0, 0.0, 2.0]])
    >>> place_route([street, street + torch.tensor([0.0, 1.0, 0.0])], 10.0)[:, 0].tolist()
    [5.0, 15.0, 25.0, 35.0]
    """
    origins = torch.empty(0, 3)
    for path in sorted((resample(path, radius / STEPS_PER_RADIUS) for path in paths), key=len, reverse=True):
        origins = torch.cat([origins, path[_new_origins(path, origins, radius)]])
    return origins


def first_origin_offset(length: float, radius: float, after_block: bool, before_block: bool) -> float:
    """Return the offset of the first origin in an uncovered part, such that neighbors are at most a radius apart.

    The part starts (ends) `COVERED_RADIUS` radii from an origin if `after_block` (`before_block`) is true, and at an
    end of the path otherwise.
    """
    if after_block and before_block:
        gap = length + 2 * COVERED_RADIUS * radius
        num_gaps = math.ceil(gap / radius - 1e-6)
        # From two to 2.25 radii, three gaps would be too short; two are at most an eighth too long.
        num_gaps = num_gaps if gap >= num_gaps * COVERED_RADIUS * radius else num_gaps - 1
        return max(0.0, gap / max(2, num_gaps) - COVERED_RADIUS * radius)
    if after_block:
        return min(length, (1 - COVERED_RADIUS) * radius)
    if before_block:
        count = max(1, math.ceil(length / radius - 1e-6))
        return max(0.0, length - (1 - COVERED_RADIUS) * radius - (count - 1) * radius)
    count = max(1, round(length / radius))
    return (length - (count - 1) * radius) / 2


def default_radius(geometry: CaptureGeometry) -> float:
    """Return a radius that divides the route into a few blocks, each with enough training frames.

    Metric captures stay within `METRIC_RADII` unless their frames are too sparse for it.
    """
    paths = [path for _, path in split_tracks(geometry)]
    length = max(route_length(paths), geometry.extent)
    if geometry.is_metric:
        radius = min(max(length / DEFAULT_BLOCKS, METRIC_RADII[0]), METRIC_RADII[1])
    else:
        radius = length / max(DEFAULT_BLOCKS, len(geometry) / FRAMES_PER_BLOCK)
    return max(radius, min(length, MIN_FRAMES * length / len(geometry)))


def route_length(paths: list[Float[Tensor, "_ 3"]]) -> float:
    """Return the length of the route, each part counted once however many cameras, lanes and passes cover it.

    This is a short spacing times the number of origins that `place_route` needs at it. A tenth of the horizontal
    diagonal is short enough for a street's bends, and wider than its lanes.
    """
    corners = torch.cat(paths)[:, :2]
    diagonal = float((corners.amax(0) - corners.amin(0)).norm())
    return len(place_route(paths, diagonal / 10)) * diagonal / 10 if diagonal > 0 else 0.0


def total_length(paths: list[Float[Tensor, "_ 3"]]) -> float:
    """Return the horizontal length of all paths together."""
    return sum(float((path[1:] - path[:-1])[:, :2].norm(dim=-1).sum()) for path in paths)


def split_tracks(geometry: CaptureGeometry) -> list[tuple[str, Float[Tensor, "_ 3"]]]:
    """Return the segment and camera centers of each track, split where the track jumps (a pause in recording)."""
    paths = []
    for indices in geometry.sorted_tracks():
        segment = geometry.tracks[indices[0]][0]
        centers = geometry.centers[indices]
        steps = (centers[1:] - centers[:-1]).norm(dim=-1)
        moving_steps = steps[steps > 1e-6 * geometry.extent]
        max_step = max(10 * float(moving_steps.median()), 0.05 * geometry.extent) if len(moving_steps) else math.inf
        split_indices = (steps > max_step).nonzero()[:, 0] + 1
        paths += [(segment, path) for path in torch.tensor_split(centers, split_indices.tolist())]
    return paths


def resample(path: Float[Tensor, "vertices 3"], step: float) -> Float[Tensor, "samples 3"]:
    """Return the path at an even horizontal spacing of at most `step`; jitter below `step` adds no length."""
    points = path.double().numpy()
    kept_indices = spaced_positions(points[:, :2], step)
    if kept_indices[-1] != len(points) - 1 and len(kept_indices) > 1:
        kept_indices.append(len(points) - 1)
    vertices = points[kept_indices]
    arc_lengths = np.concatenate([[0.0], np.linalg.norm(np.diff(vertices[:, :2], axis=0), axis=1).cumsum()])
    samples = np.linspace(0.0, arc_lengths[-1], math.ceil(arc_lengths[-1] / step) + 1)
    return torch.from_numpy(np.stack([np.interp(samples, arc_lengths, axis) for axis in vertices.T], -1)).to(path)


def _new_origins(path: Float[Tensor, "samples 3"], origins: Float[Tensor, "blocks 3"], radius: float) -> list[int]:
    """Return the path samples of the origins that are needed besides those of other paths."""
    covered_radius = COVERED_RADIUS * radius * (1 + 1e-6)
    index, covered = PositionIndex(path), np.zeros(len(path) + 1, bool)
    # The end of a path ends its last uncovered run.
    covered[-1] = True

    def cover(origin: Float[Tensor, "3"]) -> None:
        near = index.within((float(origin[0]), float(origin[1])), covered_radius)
        covered[near[(path[near] - origin)[:, :2].norm(dim=-1) <= covered_radius]] = True

    low, high = path.amin(0) - covered_radius, path.amax(0) + covered_radius
    for origin in origins[((origins >= low) & (origins <= high))[:, :2].all(-1)]:
        cover(origin)
    step = float((path[1] - path[0])[:2].norm()) if len(path) > 1 else 0.0
    found: list[int] = []
    first = int(covered.argmin())
    while not covered[first]:
        end = first + int(covered[first:].argmax())
        position = _position_in_run(first, end - 1, len(path), step, radius)
        if position is None:
            first = end
        else:
            found.append(position)
            cover(path[position])
        first += int(covered[first:].argmin())
    return found


def _position_in_run(first: int, last: int, count: int, step: float, radius: float) -> int | None:
    """Return the next origin in an uncovered run of a path's `count` samples, or None if the run is short enough."""
    length = (last - first) * step
    after_block, before_block = first > 0, last < count - 1
    if after_block != before_block and length <= MIN_GAP * radius:
        return None
    # From the last covered sample, so that rounding to samples never reduces the overlap of neighbors.
    offset = int(first_origin_offset(length, radius, after_block, before_block) / step + 1e-6) if step else 0
    return first - after_block + offset
