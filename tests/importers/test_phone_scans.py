"""Polycam and Record3D: exact poses in a world with z up."""

import json
from pathlib import Path

import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.importers.recognition import load_source
from tests.importers.sources import poses, write_polycam, write_record3d


@pytest.mark.parametrize("corrected", [True, False])
def test_polycam(tmp_path: Path, corrected: bool) -> None:
    write_polycam(tmp_path, corrected=corrected)
    capture = load_source(tmp_path)
    assert [frame.image for frame in capture.frames] == ["100.jpg", "101.jpg", "102.jpg", "103.jpg"]
    assert np.array([frame.camera_to_world for frame in capture.frames]) == pytest.approx(poses(), abs=1e-9)
    assert capture.is_metric
    lens = capture.frames[0].intrinsics
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (20.0, 21.0, 12.5, 8.0)
    assert ("poses and images as Polycam corrected them" in capture.notes) == corrected


def test_record3d(tmp_path: Path) -> None:
    write_record3d(tmp_path, frameTimestamps=[0.0, 0.5, 1.0, 1.5])
    capture = load_source(tmp_path)
    assert np.array([frame.camera_to_world for frame in capture.frames]) == pytest.approx(poses(), abs=1e-9)
    lens = capture.frames[0].intrinsics
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (20.0, 21.0, 12.5, 8.0)
    assert [frame.timestamp for frame in capture.frames] == [0.0, 0.5, 1.0, 1.5]


def test_record3d_with_a_lens_for_each_image(tmp_path: Path) -> None:
    write_record3d(tmp_path, perFrameIntrinsicCoeffs=[[20.0 + i, 21.0, 12.0, 8.0] for i in range(4)])
    assert [frame.intrinsics.fx for frame in load_source(tmp_path).frames] == [20.0, 21.0, 22.0, 23.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": []}, r"metadata\.json: poses is empty"),
        ({"K": [1.0]}, r"metadata\.json: K is"),
        ({"poses": [[0, 0, 0, 0, 1, 2, 3]] * 4}, r"metadata\.json: the quaternion of a pose is zero"),
        ({"poses": [[0, 0, 0, 1, 1, 2, 3]] * 5}, r"rgb/4\.jpg: this image does not exist"),
    ],
)
def test_broken_recordings_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    write_record3d(tmp_path, **changes)
    with pytest.raises(CaptureError, match=message):
        load_source(tmp_path)


def test_a_broken_keyframe_is_named(tmp_path: Path) -> None:
    write_polycam(tmp_path, corrected=False)
    file = tmp_path / "keyframes" / "cameras" / "101.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"t_11": 9.0}))
    with pytest.raises(CaptureError, match="cameras: the pose is not rigid"):
        load_source(tmp_path)
    file.write_text("{}")
    with pytest.raises(CaptureError, match=r"101\.json: t_00 is missing"):
        load_source(tmp_path)
