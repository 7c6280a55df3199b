"""Stretches: the pieces of a drive over which the error of its poses is taken to be one and the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame

MAX_PIECES = 1e9
"""Of a segment: with more, each frame has long had a stretch of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseSegment:
    """One piece of a segment."""

    segment: str
    number: int = 0
    """Counted along the segment; a segment that is not divided is number 0 alone."""


def pose_segments(capture: Capture, length: float = 0.0) -> tuple[PoseSegment, ...]:
    """The stretch of every frame, in order.

    All cameras of a rig share their stretch. The pieces of one segment are equally long, as nearly `length` as
    that allows; a length of 0 leaves segments whole. It is the path of the segment's most frequent camera that is
    divided, by time; frames without a time are divided along the path of their own camera, in their order.
    """
    found: dict[int, PoseSegment] = {}
    for segment, indices in capture.segments.items():
        frames = [capture.frames[i] for i in indices]
        way = _arc_length(frames) if length > 0.0 else np.zeros(len(frames))
        total = float(way.max())
        pieces = max(1, round(min(total / length, MAX_PIECES))) if total > 0.0 else 1
        numbers = np.minimum((way / max(total, 1e-12) * pieces).astype(int), pieces - 1)
        found |= {i: PoseSegment(segment=segment, number=n) for i, n in zip(indices, numbers.tolist(), strict=True)}
    return tuple(found[i] for i in range(len(capture)))


def _arc_length(frames: Sequence[Frame]) -> Float[np.ndarray, "frames"]:
    """How far along its segment each frame was taken, in world units."""
    times = [frame.timestamp for frame in frames]
    if None in times:
        way = np.empty(len(frames))
        for camera in {frame.camera for frame in frames}:
            rows = np.array([i for i, frame in enumerate(frames) if frame.camera == camera])
            way[rows] = _cumulated([frames[i] for i in rows])
        return way
    camera = Counter(frame.camera for frame in frames).most_common(1)[0][0]
    order = np.argsort(np.array(times, dtype=np.float64), kind="stable")
    path = [frames[i] for i in order if frames[i].camera == camera]
    return np.interp(np.array(times, dtype=np.float64), [frame.timestamp for frame in path], _cumulated(path))


def _cumulated(path: Sequence[Frame]) -> Float[np.ndarray, "frames"]:
    steps = np.linalg.norm(np.diff(np.array([frame.center for frame in path]), axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(steps)])
