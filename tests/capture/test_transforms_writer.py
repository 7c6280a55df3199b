"""Captures written as `transforms.json` round-trip."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.frame import Frame, Intrinsics, parse_pose
from blocknerf.capture.lidar import LidarSweep
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.transforms import read_transforms
from blocknerf.capture.transforms_writer import write_transforms
from blocknerf.capture.transforms_writer import write_transforms as write_file
from blocknerf.errors import CaptureError
from blocknerf.images import write_image

LENSES = (
    Intrinsics(width=6, height=4, fx=5.0, fy=5.5, cx=3.0, cy=2.25),
    Intrinsics(
        width=6, height=4, fx=5.0, fy=5.0, cx=3.0, cy=2.0, model=CameraModel.OPENCV,
        distortion=(0.1, -0.02, 0.001, 0.002, 0.003, 0.0),
    ),
    Intrinsics(
        width=6, height=4, fx=3.0, fy=3.0, cx=3.0, cy=2.0, model=CameraModel.FISHEYE,
        distortion=(0.1, -0.02, 0.0, 0.0, 0.003, 0.004),
    ),
)  # fmt: skip


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    """One frame per camera model; the first has all metadata, the others almost none."""
    folder, matrices = tmp_path / "data" / "capture", np.random.default_rng(0).normal(size=(3, 3, 3))
    frames = []
    for i, lens in enumerate(LENSES):
        left, _, right = np.linalg.svd(matrices[i])
        rotation = left @ right * np.linalg.det(left @ right)
        pose = parse_pose(np.column_stack([rotation, [10.0 * i, -3.0, 1.5]]))
        name = f"images/{i}.png"
        write_image(folder / name, np.full((4, 6, 3), 40 * i, np.uint8))
        frames.append(
            Frame(name=name, image=name, intrinsics=lens, camera_to_world=pose, segment=f"segment{i}", camera=f"{i}")
        )
    write_image(folder / "mask.png", np.full((4, 6), 255, np.uint8))
    write_ply(PointCloud(positions=np.zeros((2, 3), np.float32), colors=None), folder / "points.ply")
    known = replace(
        frames[0],
        mask="mask.png",
        sky_mask="mask.png",
        timestamp=12.5,
        exposure=0.02,
        gps=(1.0, 2.0, 3.0),
        grayscale=True,
    )
    return Capture(
        image_dir=folder,
        frames=(known, *frames[1:]),
        sparse_points="points.ply",
        is_metric=True,
        geo_origin=(1.0, 2.0, 3.0),
        source="us",
    )


def test_round_trip(capture: Capture) -> None:
    path = capture.image_dir / "transforms_refined.json"
    left_out = write_transforms(capture, path)
    back = read_transforms(path)
    for before, after in zip(capture.frames, back.frames, strict=True):
        assert np.allclose(before.camera_to_world, after.camera_to_world, atol=1e-12)
        assert replace(after, camera_to_world=before.camera_to_world) == before
    assert replace(back, frames=capture.frames) == capture
    assert left_out == ()


def test_what_the_format_cannot_hold_is_said(capture: Capture, tmp_path: Path) -> None:
    sweep = LidarSweep(path="sweep.bin", timestamp=0.0, sensor_to_world=capture.frames[0].camera_to_world)
    imported = replace(capture, mask_dir=tmp_path, points_dir=tmp_path, lidar_sweeps=(sweep,))
    masks, points, sweeps = write_transforms(imported, capture.image_dir / "other.json")
    assert masks == f"the masks of 1 images are left out: they are in {tmp_path}, apart from the images"
    assert points.startswith("the points are left out: ")
    assert sweeps.startswith("1 LiDAR sweeps are left out: ")
    document = json.loads((capture.image_dir / "other.json").read_text())
    assert "ply_file_path" not in document
    assert not any("mask_path" in frame for frame in document["frames"])


def test_round_trip_from_the_folder_above(capture: Capture) -> None:
    write_transforms(replace(capture, is_metric=False, geo_origin=None), capture.image_dir.parent / "transforms.json")
    back = read_transforms(capture.image_dir.parent)
    assert not back.is_metric
    assert [frame.image for frame in back.frames] == [f"capture/images/{i}.png" for i in range(3)]
    assert back.frames[0].mask == "capture/mask.png"
    assert back.sparse_points == "capture/points.ply"


def test_images_outside_the_folder_raise(capture: Capture, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "transforms.json"
    with pytest.raises(CaptureError, match=r"not below this file's folder.*; write .*transforms.json, or"):
        write_transforms(capture, path)
    assert not path.exists()


def test_keys_of_nerfstudio_survive(write_transforms: Callable[..., Path]) -> None:
    turn = [[0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]]
    kept = {"applied_transform": turn, "applied_scale": 0.5}
    of_frame = {"depth_file_path": "depth/0.png", "colmap_im_id": 7}
    lists = {"train_filenames": ["images/0.png", "images/1.png"], "test_filenames": ["images/2.png"]}

    def edit(document: dict[str, Any]) -> None:
        document.update(kept | lists)
        document["frames"][0].update(of_frame)

    folder = write_transforms(edit)
    capture = read_transforms(folder)
    assert [frame.split for frame in capture.frames] == ["train", "train", "test"]
    write_capture(capture, folder / "capture.json")
    path = folder / "other.json"
    write_file(read_capture(folder / "capture.json"), path)
    document = json.loads(path.read_text())
    assert {key: document[key] for key in kept | lists} == kept | lists
    assert {key: document["frames"][0][key] for key in of_frame} == of_frame
    assert "val_filenames" not in document


def test_a_turned_world_turns_the_applied_transform_and_leaves_out_the_points(
    write_transforms: Callable[..., Path],
) -> None:
    turn = ((0.0, -1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 3.0))
    identity = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    folder = write_transforms(lambda document: document.update(applied_transform=identity))
    left_out = write_file(replace(read_transforms(folder), source_to_world=turn), folder / "other.json")
    assert left_out == (
        "the points are left out: they are apart from the images, or in other coordinates than the poses",
    )
    document = json.loads((folder / "other.json").read_text())
    assert document["applied_transform"] == [list(row) for row in turn]
    assert "ply_file_path" not in document
