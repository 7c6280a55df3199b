"""The part of a capture that trains one block: equal training, bounded size, damage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.frame import Intrinsics
from blocknerf.capture.lidar import LidarSweep
from blocknerf.capture.pose_segments import pose_segments
from blocknerf.errors import CaptureError
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.block_capture import (
    POINTS_RANGE,
    CaptureCutter,
    read_block_capture,
    write_block_capture,
)
from blocknerf.training.setup import default_downscale, make_config, spec_for_block
from tests.benchmarks.large_captures import write_large_capture

BLOCK, FRAMES = Block(name="b000", origin=(30.0, 0.0, 0.0), radius=30.0), (12, 13, 40, 41, 2)


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    """A capture of 1,200 frames along 200 m, with points, a wide lens and sweeps."""
    whole = read_capture(write_large_capture(tmp_path / "source", frames=1200, points=3000))
    wide = Intrinsics(width=64, height=40, fx=25.6, fy=25.6, cx=32.0, cy=20.0)
    frames = [replace(frame, intrinsics=wide) if i in (13, 900) else frame for i, frame in enumerate(whole.frames)]
    sweeps = tuple(
        LidarSweep(path=f"{i}.bin", timestamp=1.6e9 + 0.5 * i, sensor_to_world=whole.frames[0].camera_to_world)
        for i in range(100)
    )
    return replace(whole, frames=tuple(frames), lidar_sweeps=sweeps, mask_dir=tmp_path / "masks")


def stored(capture: Capture, tmp_path: Path, block: Block = BLOCK, frames: tuple[int, ...] = FRAMES) -> Capture:
    path = tmp_path / "run" / "frames.table"
    write_block_capture(CaptureCutter(capture).part(block, frames), path)
    return read_block_capture(path)


def test_frames_are_those_of_the_capture_in_the_given_order(capture: Capture, tmp_path: Path) -> None:
    part = stored(capture, tmp_path)
    assert part.frames == tuple(capture.frames[i] for i in FRAMES)
    for name in ("camera_to_world", "intrinsics", "width"):
        expected = getattr(capture.cameras(), name)[torch.tensor(FRAMES)]
        assert torch.equal(getattr(part.cameras(), name), expected)
    assert (part.image_dir, part.mask_dir) == (capture.image_dir, capture.mask_dir)
    assert part.segments == capture.select(FRAMES).segments


def test_training_is_set_up_as_from_the_whole_capture(capture: Capture, tmp_path: Path) -> None:
    near = replace(BLOCK, radius=200.0)  # All points are in range.
    part, indices = stored(capture, tmp_path, near), range(len(FRAMES))
    assert part.facts == capture.facts
    for preset in ("draft", "fine"):
        assert default_downscale(part, preset) == default_downscale(capture, preset)
        assert spec_for_block(part, near, indices, preset) == spec_for_block(capture, near, FRAMES, preset)
        assert make_config(part, indices, preset) == make_config(capture, FRAMES, preset)


def test_points_around_the_block_are_kept(capture: Capture, tmp_path: Path) -> None:
    cloud = capture.read_sparse_points()
    assert cloud is not None
    small = replace(BLOCK, radius=8.0)
    part = stored(capture, tmp_path, small)
    distances = np.linalg.norm(cloud.positions[:, :2] - np.array(small.origin[:2]), axis=1)
    near = distances <= POINTS_RANGE * small.radius
    assert part.depth_points() is not None
    assert 0 < near.mean() < 0.5
    np.testing.assert_array_equal(part.depth_points().positions, cloud.positions[near])
    np.testing.assert_array_equal(part.depth_points().colors, cloud.colors[near])


def test_a_block_that_needs_most_points_keeps_all(capture: Capture, tmp_path: Path) -> None:
    cloud, part = capture.read_sparse_points(), stored(capture, tmp_path, replace(BLOCK, radius=40.0))
    assert cloud is not None
    assert part.depth_points() is not None
    assert len(part.depth_points()) == len(cloud)


def test_points_are_in_the_world(capture: Capture, tmp_path: Path) -> None:
    shifted = ((1.0, 0.0, 0.0, 5.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    moved, before = stored(replace(capture, source_to_world=shifted), tmp_path), capture.read_sparse_points()
    assert before is not None
    assert moved.depth_points() is not None
    assert moved.depth_points().positions[:, 0].mean() != pytest.approx(before.positions[:, 0].mean(), abs=1.0)


@pytest.mark.parametrize("length", [0.0, 20.0])
@pytest.mark.parametrize("timed", [True, False])
def test_pose_segments_are_those_of_the_whole_capture(
    capture: Capture, tmp_path: Path, length: float, timed: bool
) -> None:
    if not timed:
        capture = replace(capture, frames=tuple(replace(frame, timestamp=None) for frame in capture.frames))
    whole = pose_segments(capture, length)
    assert pose_segments(stored(capture, tmp_path), length) == tuple(whole[i] for i in FRAMES)
    few = stored(capture, tmp_path).select([1, 3])
    assert pose_segments(few, length) == (whole[FRAMES[1]], whole[FRAMES[3]])


def test_sweeps_of_the_frames_are_kept(capture: Capture, tmp_path: Path) -> None:
    part = stored(capture, tmp_path)
    assert [sweep.path for sweep in part.lidar_sweeps] == ["0.bin", "1.bin", "3.bin"]


def test_the_file_does_not_grow_with_the_capture(capture: Capture, tmp_path: Path) -> None:
    small = replace(BLOCK, radius=8.0)
    sizes = []
    for copies in (1, 4):
        frames = [
            replace(frame, name=f"{copy}/{frame.name}", image=f"{copy}/{frame.image}")
            for copy in range(copies)
            for frame in capture.frames
        ]
        stored(replace(capture, frames=tuple(frames)), tmp_path, small)
        sizes.append((tmp_path / "run" / "frames.table").stat().st_size)
    assert sizes[0] == sizes[1]


def test_equal_parts_are_equal_files(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "run" / "frames.table"
    part = stored(capture, tmp_path)
    first = path.read_bytes()
    write_block_capture(part, path)
    assert path.read_bytes() == first


def test_a_far_block_of_a_large_city_is_precise_enough(capture: Capture, tmp_path: Path) -> None:
    """Whether single precision suffices depends on the whole capture, not on the extent of one block."""
    pose = capture.frames[0].camera_to_world
    far = tuple((*row[:3], row[3] + 4e4 * (axis == 0)) for axis, row in enumerate(pose))
    frames = (*capture.frames, replace(capture.frames[0], name="far", image="far.jpg", camera_to_world=far))
    part = stored(replace(capture, frames=frames), tmp_path, BLOCK, (len(frames) - 1,))
    assert float(part.cameras().centers[0, 0]) == pytest.approx(4e4, rel=0.01)


@pytest.mark.parametrize("position", [3, 400, -5])
def test_a_damaged_file_is_refused(capture: Capture, tmp_path: Path, position: int) -> None:
    path = tmp_path / "run" / "frames.table"
    stored(capture, tmp_path)
    data = bytearray(path.read_bytes())
    data[position] ^= 255
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=r"frames\.table: .*; partition again"):
        read_block_capture(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"frames\.table: this file does not exist; partition again"):
        read_block_capture(tmp_path / "frames.table")


def test_a_part_with_points_is_not_written_as_json(capture: Capture, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="use write_block_capture"):
        write_capture(stored(capture, tmp_path), tmp_path / "part.json")
    assert not (tmp_path / "part.json").exists()
