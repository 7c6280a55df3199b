"""Which photographs a fly-through follows: one camera's, in order, along one unbroken stretch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from blocknerf.cameras import Cameras
from blocknerf.errors import RunError

MAX_GAP = 8.0
"""Steps this many times the usual one end a stretch: a camera does not go there, it was carried or cut."""

Positions = Float[np.ndarray, "frames 3"]


@runtime_checkable
class FrameLike(Protocol):
    """What is asked of a photograph here; `blocknerf.capture.frame.Frame` is one."""

    @property
    def name(self) -> str: ...
    @property
    def segment(self) -> str: ...
    @property
    def camera(self) -> str: ...
    @property
    def timestamp(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePath:
    """One unbroken stretch of one camera's way."""

    segment: str
    camera: str
    frames: tuple[int, ...]
    """Positions in the capture, in the order they were passed."""
    length: float
    """Of the way, in world units."""


def longest_path(cameras: Cameras, shots: Sequence[FrameLike], segment: str | None = None) -> CapturePath:
    """The longest unbroken stretch of any segment (or of the one named), by its most forward-looking camera.

    Raises:
        RunError: there are no photographs, or no segment of that name.
    """
    names = list(dict.fromkeys(shot.segment for shot in shots))
    if not names:
        raise RunError("trajectory: there are no photographs to fly along; ingest a capture with frames")
    if segment is not None and segment not in names:
        raise RunError(f"trajectory: no segment {segment!r}; name one of {', '.join(names[:8])}")
    chosen = names if segment is None else [segment]
    return max((_segment_path(cameras, shots, name) for name in chosen), key=lambda passage: passage.length)


def _segment_path(cameras: Cameras, shots: Sequence[FrameLike], segment: str) -> CapturePath:
    members: dict[str, list[int]] = {}
    for i, shot in enumerate(shots):
        if shot.segment == segment:
            members.setdefault(shot.camera, []).append(i)
    centers = cameras.centers.double().numpy()
    ways = {camera: sort_frames(centers, shots, frames) for camera, frames in members.items()}
    # A tenth is nothing to see: among cameras as forward-looking as each other, the capture's first one films.
    camera = max(ways, key=lambda name: round(forward_alignment(cameras, ways[name]), 1))
    pose_segments = split_at_gaps(centers, ways[camera])
    best = max(pose_segments, key=lambda frames: path_length(centers[frames]))
    return CapturePath(segment=segment, camera=camera, frames=tuple(best), length=path_length(centers[best]))


def sort_frames(centers: Positions, shots: Sequence[FrameLike], frames: list[int]) -> list[int]:
    """Photographs of one camera as they were passed: by time where it is known, else by name or as listed.

    Of the last two, the one that makes the shorter way.
    """
    times = [shots[i].timestamp for i in frames]
    if all(time is not None for time in times):
        return [i for _, i in sorted(zip(times, frames, strict=True))]
    named = sorted(frames, key=lambda i: natural_sort_key(shots[i].name))
    return min(frames, named, key=lambda order: path_length(centers[order]))


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by their value.

    >>> sorted(["10.jpg", "9.jpg"], key=natural_sort_key)
    ['9.jpg', '10.jpg']
    """
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def forward_alignment(cameras: Cameras, frames: list[int]) -> float:
    """Mean cosine between where a camera looks and where it goes; 0 for one that stands still."""
    motion = cameras.camera_to_world[frames].double().numpy()
    steps = np.diff(motion[:, :, 3], axis=0)
    lengths = np.linalg.norm(steps, axis=-1)
    moving = lengths > 0.1 * median_step(motion[:, :, 3])
    if not moving.any():
        return 0.0
    return float(((motion[:-1, :, 2] * steps).sum(-1)[moving] / lengths[moving]).mean())


def split_at_gaps(centers: Positions, frames: list[int]) -> list[list[int]]:
    """The way cut wherever it leaps."""
    steps = np.linalg.norm(np.diff(centers[frames], axis=0), axis=-1)
    cuts = np.flatnonzero(steps > MAX_GAP * median_step(centers[frames])) + 1
    return [part.tolist() for part in np.split(np.array(frames), cuts)]


def median_step(positions: Positions) -> float:
    """Median distance between neighbors that are not at rest; 0 where nothing moves."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    moving = steps[steps > 0.1 * steps.mean()] if steps.size else steps
    return float(np.median(moving)) if moving.size else 0.0


def path_length(positions: Positions) -> float:
    """Length of the line through positions."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())
