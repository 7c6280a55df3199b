"""Held-out frames: whole instants, every camera, and the capture's own split."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics, pose_from_flat
from blocknerf.partitioning.held_out import hold_out

POSE = pose_from_flat([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0])


def frame(segment: str, camera: str, number: int, time: float | None = None) -> Frame:
    lens = Intrinsics(width=8, height=6, fx=5.0, fy=5.0, cx=4.0, cy=3.0)
    name = f"{segment}_{number}_{camera}.png"
    return Frame(
        name=name, image=name, intrinsics=lens, camera_to_world=POSE, segment=segment, camera=camera, timestamp=time
    )


def capture(*frames: Frame) -> Capture:
    return Capture(image_dir=Path(), frames=frames, is_metric=True, source="a test")


def rig(cameras: int, instants: int, *, times: bool, segment: str = "a") -> list[Frame]:
    """Frames of a rig in the order of capture, with cameras that fire one after another."""
    return [
        frame(segment, str(camera), number, number + 0.01 * camera if times else None)
        for number in range(instants)
        for camera in range(cameras)
    ]


@pytest.mark.parametrize("cameras", [1, 2, 4, 8])
@pytest.mark.parametrize("times", [True, False])
def test_whole_instants_are_held_out_with_every_camera(cameras: int, times: bool) -> None:
    drive = capture(*rig(cameras, 20, times=times))
    held_out = hold_out(drive, 8)
    names = {drive.frames[i].name for i in held_out.test}
    assert names == {f"a_{number}_{camera}.png" for number in (4, 12) for camera in range(cameras)}
    has_rig = "instant of each segment was held out, with all its cameras"
    assert held_out.rule == f"Every 8th {has_rig if cameras > 1 else 'image of each segment was held out'}"


def test_cameras_that_are_their_own_segments_are_all_evaluated() -> None:
    frames = [frame(str(camera), str(camera), number) for number in range(10) for camera in range(8)]
    held_out = hold_out(capture(*frames), 8)
    assert Counter(frames[i].camera for i in held_out.test) == {str(camera): 1 for camera in range(8)}
    assert {i // 8 for i in held_out.test} == {4}


def test_cameras_of_different_rates_share_instants() -> None:
    slow = [frame("a", "slow", i, float(i)) for i in range(10)]
    fast = [frame("a", "fast", i, i / 2) for i in range(20)]
    drive = capture(*slow, *fast)
    held = [drive.frames[i] for i in hold_out(drive, 4).test]
    times = {frame.timestamp for frame in held if frame.camera == "fast"}
    assert times
    assert all(min(abs(frame.timestamp - time) for time in times) <= 0.5 for frame in held if frame.camera == "slow")


def test_short_segments_are_counted_through() -> None:
    frames = [frame(f"s{segment}", "0", number) for segment in range(8) for number in range(3)]
    assert hold_out(capture(*frames), 8).test == (4, 12, 20)


def test_frames_are_in_the_order_of_time_whatever_their_order_in_the_file() -> None:
    frames = [frame("a", "0", number, float(number)) for number in reversed(range(16))]
    held_out = hold_out(capture(*frames), 8)
    assert {frames[i].timestamp for i in held_out.test} == {4.0, 12.0}


def test_nothing_is_held_out_with_zero() -> None:
    held_out = hold_out(capture(*rig(1, 9, times=True)), 0)
    assert (held_out.test, held_out.rule) == ((), "No image was held out")


@pytest.mark.parametrize(
    ("splits", "test", "unused", "rule"),
    [
        (("train", "val", "test", None), (2,), (1,), "The images listed for testing were held out"),
        (("train", "val", "val", "train"), (1, 2), (), "The images listed for validation were held out"),
        (("train", "train", "train", "train"), (), (), "All images are listed for training"),
    ],
)
@pytest.mark.parametrize("test_every", [0, 2])
def test_the_split_of_the_capture_comes_first(splits, test, unused, rule, test_every) -> None:
    frames = [replace(frame("a", "0", i), split=split) for i, split in enumerate(splits)]
    held_out = hold_out(capture(*frames), test_every)
    assert (held_out.test, held_out.unused, held_out.rule) == (test, unused, rule)
