"""Pose segments: pieces of a driving segment over which the pose error is assumed constant."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_part import SegmentPaths

MAX_PIECES = 1e9
"""Maximum pieces of a segment; each frame has its own piece long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseSegment:
    """One piece of a driving segment."""

    segment: str
    number: int = 0
    """Index along the segment; 0 for an undivided segment."""


def pose_segments(capture: Capture, length: float = 0.0) -> tuple[PoseSegment, ...]:
    """Return the pose segment of every frame, in order.

    All cameras of a rig share a pose segment. The pieces of one segment are equally long, as close to `length` as
    possible; a length of 0 leaves segments undivided. The path of the segment's most frequent camera is divided
    by time; frames without timestamps are divided along the path of their own camera, in their order.
    """
    segments = capture.column("segment")
    if length <= 0.0:
        return tuple(PoseSegment(segment=segment) for segment in segments)
    paths = segment_paths(capture)
    pieces = np.maximum(1, np.minimum(paths.total / length, MAX_PIECES).round())
    fractions = paths.arc_length / np.maximum(paths.total, 1e-12)
    numbers = np.minimum(fractions * pieces, pieces - 1).astype(int)
    return tuple(PoseSegment(segment=segment, number=n) for segment, n in zip(segments, numbers.tolist(), strict=True))


def segment_paths(capture: Capture) -> SegmentPaths:
    """Return where each frame is along the path of its segment; of a part of a capture, along the whole segment."""
    if capture.part is not None:
        return capture.part.paths
    centers, cameras = capture.centers, np.array(capture.column("camera"))
    times = np.array(capture.column("timestamp"), dtype=np.float64)
    arc_length, total = np.empty(len(capture)), np.empty(len(capture))
    for indices in capture.segments.values():
        rows = np.array(indices)
        arc_length[rows] = _arc_length(centers[rows], cameras[rows], times[rows])
        total[rows] = arc_length[rows].max()
    return SegmentPaths(arc_length=arc_length, total=total)


def _arc_length(
    centers: Float64[np.ndarray, "frames 3"], cameras: np.ndarray, times: Float64[np.ndarray, "frames"]
) -> Float64[np.ndarray, "frames"]:
    """Return the arc length of each frame along its segment, in world units; unknown times are NaN."""
    if np.isnan(times).any():
        arc_length = np.empty(len(centers))
        for camera in np.unique(cameras):
            arc_length[cameras == camera] = _cumulative_length(centers[cameras == camera])
        return arc_length
    camera = Counter(cameras.tolist()).most_common(1)[0][0]
    order = np.argsort(times, kind="stable")
    path = order[cameras[order] == camera]
    return np.interp(times, times[path], _cumulative_length(centers[path]))


def _cumulative_length(path: Float64[np.ndarray, "frames 3"]) -> Float64[np.ndarray, "frames"]:
    steps = np.linalg.norm(np.diff(path, axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])
