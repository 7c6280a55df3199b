"""Pose segments: pieces of a driving segment over which the pose error is assumed constant."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame

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
    pose_segment_of: dict[int, PoseSegment] = {}
    for segment, indices in capture.segments.items():
        frames = [capture.frames[i] for i in indices]
        arc_length = _arc_length(frames) if length > 0.0 else np.zeros(len(frames))
        total = float(arc_length.max())
        pieces = max(1, round(min(total / length, MAX_PIECES))) if total > 0.0 else 1
        numbers = np.minimum((arc_length / max(total, 1e-12) * pieces).astype(int), pieces - 1)
        pose_segment_of |= {
            i: PoseSegment(segment=segment, number=n) for i, n in zip(indices, numbers.tolist(), strict=True)
        }
    return tuple(pose_segment_of[i] for i in range(len(capture)))


def _arc_length(frames: Sequence[Frame]) -> Float[np.ndarray, "frames"]:
    """Return the arc length of each frame along its segment, in world units."""
    times = [frame.timestamp for frame in frames]
    if None in times:
        arc_length = np.empty(len(frames))
        for camera in {frame.camera for frame in frames}:
            rows = np.array([i for i, frame in enumerate(frames) if frame.camera == camera])
            arc_length[rows] = _cumulative_length([frames[i] for i in rows])
        return arc_length
    camera = Counter(frame.camera for frame in frames).most_common(1)[0][0]
    order = np.argsort(np.array(times, dtype=np.float64), kind="stable")
    path = [frames[i] for i in order if frames[i].camera == camera]
    return np.interp(np.array(times, dtype=np.float64), [frame.timestamp for frame in path], _cumulative_length(path))


def _cumulative_length(path: Sequence[Frame]) -> Float[np.ndarray, "frames"]:
    steps = np.linalg.norm(np.diff(np.array([frame.center for frame in path]), axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])
