"""OpenSfM and ODM: exact poses, lenses of every projection, geographic reference, and one line for broken files."""

from pathlib import Path

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.errors import CaptureError
from blocknerf.geo import geodetic_to_enu
from blocknerf.importers.recognition import load_source
from tests.importers.sources import NAMES, POINTS, poses, write_images, write_opensfm


@pytest.mark.parametrize("below", ["", "opensfm"])
def test_poses_points_and_metadata_are_exact(tmp_path: Path, below: str) -> None:
    write_images(tmp_path / "project" / "images")
    write_opensfm(tmp_path / "project" / below)
    capture = load_source(tmp_path / "project", work=tmp_path / "work")
    assert [frame.image for frame in capture.frames] == list(NAMES)
    assert np.array([frame.camera_to_world for frame in capture.frames]) == pytest.approx(poses(), abs=1e-9)
    assert capture.is_metric
    assert capture.geo_origin == (47.5, 9.5, 400.0)
    assert [frame.timestamp for frame in capture.frames] == [100.0, 101.0, 102.0, 103.0]
    gps = capture.frames[3].gps
    assert gps is not None
    assert geodetic_to_enu(gps[1], gps[0], capture.geo_origin) == pytest.approx(poses()[3, :2, 3], abs=1e-4)
    assert gps[2] == pytest.approx(401.5)
    cloud = capture.read_sparse_points()
    assert cloud is not None
    assert cloud.colors is not None
    assert np.concatenate([cloud.positions, cloud.colors], -1) == pytest.approx(np.array(POINTS))
    assert "2 reconstructions; read the largest" in capture.notes


BROWN = {"focal_x": 1.0, "focal_y": 0.75, "c_x": 0.125, "c_y": -0.25, "k1": 0.1, "k2": 0.2, "k3": 0.3, "p1": 0.4}
LENSES = {
    "perspective": ({"k1": 0.1, "k2": 0.2}, (20, 20, 12, 8), CameraModel.OPENCV, (0.1, 0.2, 0, 0, 0, 0)),
    "brown": (BROWN, (24, 18, 15, 2), CameraModel.OPENCV, (0.1, 0.2, 0.4, 0, 0.3, 0)),
    "fisheye": ({"k1": 0.1, "k2": 0.2}, (20, 20, 12, 8), CameraModel.FISHEYE, (0.1, 0.2, 0, 0, 0, 0)),
    "fisheye_opencv": (
        {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}, (20, 20, 12, 8), CameraModel.FISHEYE, (0.1, 0.2, 0, 0, 0.3, 0.4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("projection", LENSES)
def test_lenses(tmp_path: Path, projection: str) -> None:
    parameters, focal, model, distortion = LENSES[projection]
    write_images(tmp_path / "images")
    write_opensfm(tmp_path, {"projection_type": projection, **parameters})
    lens = load_source(tmp_path, work=tmp_path / "work").frames[0].intrinsics
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == pytest.approx(focal)
    assert (lens.model, lens.distortion) == (model, distortion)


def test_a_world_without_gps_has_no_scale(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_opensfm(tmp_path, reference_lla={"latitude": 0.0, "longitude": 0.0, "altitude": 0.0}, points={})
    capture = load_source(tmp_path, work=tmp_path / "work")
    assert (capture.is_metric, capture.geo_origin, capture.sparse_points) == (False, None, None)
    assert capture.frames[0].gps is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projection_type": "spherical"}, "camera v2 phone: projection spherical is not supported; cut perspective"),
        ({"projection_type": "fisheye624"}, "projection fisheye624 is not supported; undistort"),
        ({"focal": None}, "camera v2 phone has no focal length"),
        ({"width": -1}, r"reconstruction\.json: \[1\]\.cameras.*width is not a whole number"),
        ({"focal": "wide"}, "not a number"),
    ],
)
def test_lenses_that_cannot_be_used_are_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    write_images(tmp_path / "images")
    write_opensfm(tmp_path, changes)
    with pytest.raises(CaptureError, match=message):
        load_source(tmp_path, work=tmp_path / "work")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"shots": {}}, "holds no images with poses"), ({"cameras": {}}, "camera v2 phone of 0.png is not in the file")],
)
def test_incomplete_files_are_one_line(tmp_path: Path, changes: dict, message: str) -> None:
    write_images(tmp_path / "images")
    write_opensfm(tmp_path, **changes)
    with pytest.raises(CaptureError, match=message):
        load_source(tmp_path, work=tmp_path / "work")
