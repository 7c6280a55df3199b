"""Pose segments divide driving segments along their path, in any order of frames."""

from dataclasses import replace
from pathlib import Path

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.pose_segments import PoseSegment, pose_segments

LENS = Intrinsics(width=4, height=4, fx=4.0, fy=4.0, cx=2.0, cy=2.0)


def frame(segment: str, camera: str, x: float, *, y: float = 0.0, timed: bool = True) -> Frame:
    name = f"{segment}_{camera}_{x:g}"
    pose = ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, 0.0))
    return Frame(
        name=name, image=f"{name}.png", intrinsics=LENS, camera_to_world=pose, segment=segment, camera=camera,
        timestamp=x if timed else None,
    )  # fmt: skip


def capture_of(*frames: Frame) -> Capture:
    return Capture(image_dir=Path("anywhere"), frames=frames, is_metric=True, source="test")


def two_segments(*, timed: bool = True) -> Capture:
    """A segment of 20 units with two alternating cameras side by side, and a short one of 4."""
    cameras = ((x, camera) for x in range(21) for camera in "ab")
    long = [frame("long", camera, float(x), y=0.5 * (camera == "b"), timed=timed) for x, camera in cameras]
    return capture_of(*long, *(frame("short", "a", float(x), timed=timed) for x in range(5)))


def numbers(capture: Capture, segment: str, length: float) -> list[int]:
    pairs = zip(capture.frames, pose_segments(capture, length), strict=True)
    return [pose_segment.number for frame, pose_segment in pairs if frame.segment == segment]


def test_whole_segments_by_default() -> None:
    capture = two_segments()
    assert pose_segments(capture) == tuple(PoseSegment(segment=frame.segment) for frame in capture.frames)


@pytest.mark.parametrize("timed", [True, False])
def test_pieces_are_equally_long_and_rigs_stay_together(timed: bool) -> None:
    capture = two_segments(timed=timed)
    pairs = numbers(capture, "long", 5.0)
    assert pairs[::2] == pairs[1::2] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 6
    assert numbers(capture, "short", 5.0) == [0] * 5


def test_the_length_is_rounded_to_whole_pieces() -> None:
    assert max(numbers(two_segments(), "long", 7.0)) + 1 == 3
    assert max(numbers(two_segments(), "long", 15.0)) + 1 == 1
    assert max(numbers(two_segments(), "long", 13.0)) + 1 == 2


def test_frames_are_ordered_by_time() -> None:
    capture = two_segments()
    backward = replace(capture, frames=capture.frames[::-1])
    assert pose_segments(backward, 5.0) == pose_segments(capture, 5.0)[::-1]


def test_a_static_camera_has_one_pose_segment() -> None:
    static = capture_of(*(replace(frame("s", "a", 0.0), name=f"{i}", image=f"{i}.png") for i in range(4)))
    assert pose_segments(static, 1.0) == (PoseSegment(segment="s"),) * 4
