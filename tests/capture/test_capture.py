"""Captures, their file, and the errors of both."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.cameras import CameraModel
from blocknerf.capture import Capture, check_files, read_capture, read_transforms, write_capture
from blocknerf.capture.frame import Frame, Intrinsics, parse_pose
from blocknerf.errors import CaptureError
from blocknerf.geometry import se3_exp

LENS = Intrinsics(width=12, height=8, fx=10.0, fy=11.0, cx=6.5, cy=4.0)


def frame(name: str, x: float = 0.0, **metadata) -> Frame:
    pose = ((1.0, 0.0, 0.0, x), (0.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 2.0))
    defaults = {"image": name, "intrinsics": LENS, "camera_to_world": pose, "segment": "0", "camera": "0"}
    return Frame(name=name, **(defaults | metadata))


def capture_of(*frames: Frame, **metadata) -> Capture:
    return Capture(frames=frames, **({"image_dir": Path("/photos"), "is_metric": True, "source": "a test"} | metadata))


def test_cameras_follow_the_frames():
    fisheye = replace(LENS, model=CameraModel.FISHEYE, distortion=(0.1, 0.2, 0.0, 0.0, 0.3, 0.4), fx=9.0)
    capture = capture_of(frame("a"), frame("b", 5.0, intrinsics=fisheye))
    cameras = capture.cameras()
    assert len(capture) == len(cameras) == 2
    assert cameras.camera_to_world.dtype == torch.float32
    assert cameras.centers.tolist() == [[0, 0, 2], [5, 0, 2]]
    assert cameras.intrinsics.tolist() == [[10, 11, 6.5, 4], [9, 11, 6.5, 4]]
    assert cameras.model.tolist() == [0, 2]
    assert cameras.distortion[1].tolist() == pytest.approx([0.1, 0.2, 0, 0, 0.3, 0.4])
    assert (cameras.width.tolist(), cameras.height.tolist()) == ([12, 12], [8, 8])


def test_extent_is_half_the_diagonal_and_never_zero():
    assert capture_of(frame("a")).extent == 1.0
    assert capture_of(frame("a"), frame("b", 8.0)).extent == 4.0


def test_segments_index_and_select():
    capture = capture_of(frame("a", segment="two"), frame("b", segment="one"), frame("c", segment="two"))
    assert capture.segments == {"two": [0, 2], "one": [1]}
    assert list(capture.segments) == ["two", "one"]
    assert capture.index("c") == 2
    assert [selected.name for selected in capture.select([2, 0]).frames] == ["c", "a"]


def test_images_and_masks_match_their_cameras(write_transforms):
    capture = read_transforms(write_transforms())
    for downscale in (1, 2, 3):
        cameras = capture.cameras().scaled(1 / downscale)
        size = (cameras.height[1].item(), cameras.width[1].item())
        mask = capture.read_mask(1, downscale)
        assert mask is not None
        assert capture.read_image(1, downscale).shape == (*size, 3)
        assert mask.shape == size
        assert 0 < mask.mean() < 1
    assert capture.read_mask(0) is None


def test_points_are_read_if_present(write_transforms):
    capture = read_transforms(write_transforms())
    points = capture.read_sparse_points()
    assert points is not None
    assert len(points) == 5
    assert capture.read_lidar_points() is None
    assert replace(capture, sparse_points=None).read_sparse_points() is None


def test_missing_image_files_raise(write_transforms):
    capture = read_transforms(write_transforms())
    check_files(capture)
    (capture.image_dir / "images" / "2.png").unlink()
    with pytest.raises(CaptureError, match=r"images/2\.png: this image does not exist"):
        check_files(capture)
    with pytest.raises(CaptureError, match=r"images/2\.png: this image does not exist"):
        capture.read_image(2)


@pytest.mark.parametrize("index", [3, -1])
def test_an_index_out_of_range_raises(write_transforms, index):
    capture = read_transforms(write_transforms())
    for use in (capture.read_image, capture.read_mask, lambda i: capture.select([0, i])):
        with pytest.raises(CaptureError, match=f"frame index {index} is out of range; give 0 to 2"):
            use(index)


def test_invalid_captures_raise():
    with pytest.raises(CaptureError, match="the capture has no frames; give at least one"):
        capture_of()
    with pytest.raises(CaptureError, match="duplicate frame a; list each image once"):
        capture_of(frame("a"), frame("a"))
    with pytest.raises(CaptureError, match="duplicate frame x"):
        capture_of(frame("a", image="x"), frame("b", image="x"))
    with pytest.raises(CaptureError, match="no frame is named 'z'"):
        capture_of(frame("a")).index("z")
    with pytest.raises(CaptureError, match="the capture has no frames"):
        capture_of(frame("a")).select([])
    with pytest.raises(CaptureError, match=r"path '\.\./a\.ply' leaves the capture's folder"):
        capture_of(frame("a"), sparse_points="../a.ply")


def test_invalid_frames_raise():
    with pytest.raises(CaptureError, match=r"frame a: the pose is not rigid \(scale 2\)"):
        frame("a", camera_to_world=((2.0, 0.0, 0.0, 0.0), (0.0, 2.0, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0)))
    assert frame("a", image="12:30:05.jpg").image == "12:30:05.jpg"
    with pytest.raises(CaptureError, match="frame a: path '/a' leaves the capture's folder"):
        frame("a", image="/a")
    with pytest.raises(CaptureError, match="frame a: exposure 0 is not positive"):
        frame("a", exposure=0.0)


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6), st.floats(-4e-4, 4e-4))
@settings(max_examples=50, deadline=None)
def test_nearly_rigid_poses_become_exactly_rigid(tangent, error):
    pose = se3_exp(torch.tensor([tangent], dtype=torch.float64))[0].numpy()
    rough = pose + error * np.eye(3, 4)
    exact = np.array(parse_pose(rough))
    assert np.abs(exact[:, :3] @ exact[:, :3].T - np.eye(3)).max() < 1e-14
    assert np.abs(exact - pose).max() < 1.1e-3
    assert np.array_equal(exact[:, 3], rough[:, 3])


def rich_capture(folder) -> Capture:
    """A capture in which every optional field is present in one frame and absent in another."""
    fisheye = Intrinsics(
        width=12, height=8, fx=0.1 + 0.2, fy=1 / 3, cx=6.0, cy=4.0, model=CameraModel.FISHEYE, distortion=(0.1,) * 6
    )
    metadata = {
        "mask": "m/ä.png",
        "sky_mask": "s/ä.png",
        "timestamp": 1317042145.964,
        "exposure": 0.1,
        "gps": (49.01, 8.4, 116.43),
        "grayscale": True,
    }
    pose = parse_pose(se3_exp(torch.full((1, 6), 0.3, dtype=torch.float64))[0].numpy())
    rich = frame("straße/2", intrinsics=fisheye, segment="first", camera="left", camera_to_world=pose, **metadata)
    return capture_of(
        frame("a"),
        rich,
        frame("b"),
        image_dir=folder,
        sparse_points="a.ply",
        lidar_points="l.ply",
        geo_origin=(49.0, 8.4, 116.0),
    )


def test_the_file_round_trips_exactly(tmp_path):
    capture, path = rich_capture(tmp_path / "photos"), tmp_path / "runs" / "one" / "capture.json"
    write_capture(capture, path)
    assert read_capture(path) == capture
    first = path.read_bytes()
    write_capture(read_capture(path), path)
    assert path.read_bytes() == first


def test_the_file_is_compact_and_relative(tmp_path):
    path = tmp_path / "runs" / "one" / "capture.json"
    write_capture(rich_capture(tmp_path / "photos"), path)
    data = json.loads(path.read_text())
    assert data["image_dir"] == "../../photos"
    assert len(data["intrinsics"]) == 2
    assert [item["intrinsics"] for item in data["frames"]] == [0, 1, 0]
    assert len(path.read_text().splitlines()) == 28


def test_a_file_from_before_sky_masks_is_read(tmp_path):
    path = tmp_path / "capture.json"
    write_capture(capture_of(frame("a"), image_dir=tmp_path), path)
    data = json.loads(path.read_text())
    del data["frames"][0]["sky_mask"]
    path.write_text(json.dumps(data))
    assert read_capture(path).frames[0].sky_mask is None


def test_images_and_run_can_be_moved_together(tmp_path, write_transforms):
    folder = write_transforms()
    write_capture(read_transforms(folder), folder / "run" / "capture.json")
    shutil.move(folder, tmp_path / "elsewhere")
    moved = read_capture(tmp_path / "elsewhere" / "run" / "capture.json")
    assert moved.image_dir == tmp_path / "elsewhere"
    assert moved.read_image(2).shape == (8, 12, 3)


def set_frame(key: str, value: object):
    return lambda data: data["frames"][1].update({key: value})


CORRUPT = {
    "foreign": (
        lambda d: d.update(format="blocknerf.city/2"),
        ": format: 'blocknerf.city/2' is not blocknerf.capture/2;",
    ),
    "no format": (lambda d: d.pop("format"), ": format: None is not blocknerf.capture/2; ingest the capture again"),
    "newer": (
        lambda d: d.update(format="blocknerf.capture/9"),
        ": format: blocknerf.capture/9 is newer than this version reads (blocknerf.capture/2); update blocknerf",
    ),
    "unknown key": (
        lambda d: d.update(metrik=True),
        ": metrik is an unknown key; remove it, or ingest the capture again",
    ),
    "missing key": (lambda d: d.pop("is_metric"), ": is_metric is missing; add it, or ingest the capture again"),
    "missing optional key": (
        lambda d: d.pop("lidar_points"),
        ": lidar_points is missing; add it, or ingest the capture again",
    ),
    "wrong kind": (
        lambda d: d.update(is_metric="yes"),
        ": is_metric is 'yes', not true or false; correct it, or ingest the capture again",
    ),
    "long wrong kind": (
        lambda d: d.update(geo_origin="x" * 60),
        ": geo_origin is 'xxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxx', not a list or null; correct it",
    ),
    "unknown frame key": (set_frame("color", 1), ": frames[1].color is an unknown key"),
    "missing frame key": (lambda d: d["frames"][1].pop("gps"), ": frames[1].gps is missing"),
    "camera out of range": (
        set_frame("intrinsics", 2),
        ": frames[1].intrinsics is 2, out of range; there are 2 cameras",
    ),
    "short pose": (set_frame("camera_to_world", [1.0] * 11), "not a list of length >= 12; correct it"),
    "pose NaN": (
        set_frame("camera_to_world", [float("nan")] * 12),
        ": frames[1].camera_to_world[0] is not a finite number",
    ),
    "path": (set_frame("image", "../../secret"), "path '../../secret' leaves the capture's folder"),
    "duplicate": (set_frame("name", "b"), ": duplicate frame b"),
    "no frames": (lambda d: d.update(frames=[]), ": the capture has no frames"),
    "lens model": (
        lambda d: d["intrinsics"][0].update(model="ORTHO"),
        ": intrinsics[0].model is 'ORTHO'; write one of PINHOLE, OPENCV, FISHEYE",
    ),
    "lens focal": (
        lambda d: d["intrinsics"][1].update(fx=0),
        ": intrinsics[1]: focal length (0, 0.333333) is not positive",
    ),
    "lens key": (lambda d: d["intrinsics"][1].update(k5=0), ": intrinsics[1].k5 is an unknown key"),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_file_raises_a_one_line_message(tmp_path, name):
    edit, message = CORRUPT[name]
    path = tmp_path / "capture.json"
    write_capture(rich_capture(tmp_path), path)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(CaptureError) as caught:
        read_capture(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_raises(tmp_path):
    path = tmp_path / "capture.json"
    write_capture(rich_capture(tmp_path), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CaptureError, match="this capture file is not valid JSON"):
        read_capture(path)
    with pytest.raises(CaptureError, match="this capture file does not exist"):
        read_capture(tmp_path / "none.json")
