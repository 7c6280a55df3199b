"""Captures written as `transforms.json` round-trip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics, parse_pose
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.transforms import read_transforms
from blocknerf.capture.transforms_writer import write_transforms
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
    write_transforms(capture, path)
    back = read_transforms(path)
    for before, after in zip(capture.frames, back.frames, strict=True):
        assert np.allclose(before.camera_to_world, after.camera_to_world, atol=1e-12)
        assert replace(after, camera_to_world=before.camera_to_world) == before
    assert replace(back, frames=capture.frames) == capture


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
