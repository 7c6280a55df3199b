"""Find the path that a fly-through follows: the images of one camera, in order, without gaps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from blocknerf.cameras import Cameras
from blocknerf.errors import RunError

MAX_GAP = 8.0
"""Steps longer than this many median steps split a path: the recording was interrupted there."""

Positions = Float[np.ndarray, "frames 3"]


@runtime_checkable
class FrameLike(Protocol):
    """The attributes of a frame that are used here; `blocknerf.capture.frame.Frame` has them."""

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
    """A contiguous part of one camera's path."""

    segment: str
    camera: str
    frames: tuple[int, ...]
    """Indices into the frames of the capture, in order of capture."""
    length: float
    """Path length in world units."""


def longest_path(cameras: Cameras, capture_frames: Sequence[FrameLike], segment: str | None = None) -> CapturePath:
    """Return the longest contiguous path of one segment, or of all segments if `segment` is None.

    A segment's path is that of its most forward-looking camera.

    Raises:
        RunError: There are no frames, or no segment with this name.
    """
    names = list(dict.fromkeys(frame.segment for frame in capture_frames))
    if not names:
        raise RunError("trajectory: the capture has no images to follow; ingest a capture with frames")
    if segment is not None and segment not in names:
        raise RunError(f"trajectory: no segment {segment!r}; use one of {', '.join(names[:8])}")
    candidates = names if segment is None else [segment]
    return max((_segment_path(cameras, capture_frames, name) for name in candidates), key=lambda path: path.length)


def _segment_path(cameras: Cameras, capture_frames: Sequence[FrameLike], segment: str) -> CapturePath:
    by_camera: dict[str, list[int]] = {}
    for i, frame in enumerate(capture_frames):
        if frame.segment == segment:
            by_camera.setdefault(frame.camera, []).append(i)
    centers = cameras.centers.double().numpy()
    paths = {camera: sort_frames(centers, capture_frames, frames) for camera, frames in by_camera.items()}
    # Rounded to a tenth, since smaller differences are not visible; of equal cameras, the first one is used.
    camera = max(paths, key=lambda name: round(forward_alignment(cameras, paths[name]), 1))
    longest = max(split_at_gaps(centers, paths[camera]), key=lambda frames: path_length(centers[frames]))
    return CapturePath(segment=segment, camera=camera, frames=tuple(longest), length=path_length(centers[longest]))


def sort_frames(centers: Positions, capture_frames: Sequence[FrameLike], frames: list[int]) -> list[int]:
    """Return the frames of one camera in order of capture.

    The order is by timestamp if all frames have one, else by name or as listed, whichever path is shorter.
    """
    times = [capture_frames[i].timestamp for i in frames]
    if all(time is not None for time in times):
        return [i for _, i in sorted(zip(times, frames, strict=True))]
    by_name = sorted(frames, key=lambda i: natural_sort_key(capture_frames[i].name))
    return min(frames, by_name, key=lambda order: path_length(centers[order]))


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that compares the numbers in names by value.

    >>> sorted(["10.jpg", "9.jpg"], key=natural_sort_key)
    ['9.jpg', '10.jpg']
    """
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def forward_alignment(cameras: Cameras, frames: list[int]) -> float:
    """Return the mean cosine between viewing direction and direction of travel; 0 for a static camera."""
    poses = cameras.camera_to_world[frames].double().numpy()
    steps = np.diff(poses[:, :, 3], axis=0)
    lengths = np.linalg.norm(steps, axis=-1)
    moving = lengths > 0.1 * median_step(poses[:, :, 3])
    if not moving.any():
        return 0.0
    return float(((poses[:-1, :, 2] * steps).sum(-1)[moving] / lengths[moving]).mean())


def split_at_gaps(centers: Positions, frames: list[int]) -> list[list[int]]:
    """Split a path at steps longer than `MAX_GAP` median steps."""
    steps = np.linalg.norm(np.diff(centers[frames], axis=0), axis=-1)
    cuts = np.flatnonzero(steps > MAX_GAP * median_step(centers[frames])) + 1
    return [part.tolist() for part in np.split(np.array(frames), cuts)]


def median_step(positions: Positions) -> float:
    """Return the median distance between consecutive positions, ignoring stops; 0 if nothing moves."""
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    moving = steps[steps > 0.1 * steps.mean()] if steps.size else steps
    return float(np.median(moving)) if moving.size else 0.0


def path_length(positions: Positions) -> float:
    """Return the length of the polyline through the positions."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())
