"""Metashape's XML: exact poses, its lens model in OpenCV's, chunk transforms, and cameras that are left out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.cameras import CameraModel, Cameras
from blocknerf.errors import CaptureError
from blocknerf.geo import east_north_up
from blocknerf.importers.recognition import load_source
from tests.importers.sources import METASHAPE_LENS, poses, write_images, write_metashape

ECEF = np.array([4_258_000.0, 712_500.0, 4_679_000.0])


def similarity(rotation: np.ndarray, translation: np.ndarray, scale: float) -> str:
    values = {"rotation": rotation, "translation": translation, "scale": scale}
    entries = [f"<{key}>{' '.join(map(str, np.ravel(value)))}</{key}>" for key, value in values.items()]
    return f"<transform>{''.join(entries)}</transform>"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_images(tmp_path / "project" / "images")
    return tmp_path / "project"


@pytest.mark.parametrize("given", ["", "cameras.xml"])
def test_poses_are_exact_and_others_are_counted(project: Path, given: str) -> None:
    write_metashape(project / "cameras.xml")
    capture = load_source(project / given)
    assert [frame.image for frame in capture.frames] == ["0.png", "1.png"]
    assert np.array([frame.camera_to_world for frame in capture.frames]) == pytest.approx(poses()[:2], abs=1e-12)
    assert not capture.is_metric
    assert "left out 1 of 4 cameras, which are disabled" in capture.notes
    assert "left out 1 of 4 cameras, which are not aligned" in capture.notes


def metashape_projection(point: np.ndarray) -> np.ndarray:
    """Project a point as Metashape's manual says, with the lens of the file."""
    x, y = point[:2] / point[2]
    r = x * x + y * y
    radial = 1 + 0.1 * r + 0.2 * r**2 + 0.3 * r**3
    p1 = 0.01
    distorted_x = x * radial + p1 * (r + 2 * x * x)
    distorted_y = y * radial + 2 * p1 * x * y
    return np.array([12.0 + 0.5 + distorted_x * 21.0, 8.0 - 0.25 + distorted_y * 20.0])


def test_the_lens_projects_as_in_metashape(project: Path) -> None:
    write_metashape(project / "cameras.xml")
    camera = load_source(project).cameras()[0]
    point = np.array([0.3, -0.2, 1.0])
    pixel = torch.tensor(metashape_projection(point)[None], dtype=torch.float32)
    straight = Cameras(
        camera_to_world=torch.eye(4)[None, :3], intrinsics=camera.intrinsics, distortion=camera.distortion,
        model=camera.model, width=camera.width, height=camera.height,
    )  # fmt: skip
    direction = straight.rays(torch.tensor([0]), pixel).directions[0]
    assert (direction / direction[2]).numpy() == pytest.approx(point, abs=1e-5)


def test_a_fisheye_keeps_its_coefficients(project: Path) -> None:
    write_metashape(project / "cameras.xml", kind="fisheye", lens="<f>20</f><k1>0.1</k1><k4>0.4</k4>")
    lens = load_source(project).frames[0].intrinsics
    assert (lens.model, lens.distortion) == (CameraModel.FISHEYE, (0.1, 0, 0, 0, 0, 0.4))


def test_the_transform_of_the_chunk_scales_and_turns(project: Path) -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    write_metashape(project / "cameras.xml", transform=similarity(turn, np.array([1.0, 2.0, 3.0]), 2.0))
    frame = load_source(project).frames[1]
    assert frame.center == pytest.approx(2.0 * turn @ poses()[1, :, 3] + (1.0, 2.0, 3.0))
    assert np.array(frame.camera_to_world)[:, :3] == pytest.approx(turn @ poses()[1, :, :3])


def test_earth_centered_coordinates_become_east_north_up(project: Path) -> None:
    longitude, latitude = np.degrees(np.arctan2(ECEF[1], ECEF[0])), 47.5
    axes = np.array(east_north_up(latitude, longitude))
    write_metashape(project / "cameras.xml", transform=similarity(axes.T, ECEF, 1.0))
    capture = load_source(project)
    assert capture.is_metric
    assert capture.geo_origin is not None
    assert capture.geo_origin[:2] == pytest.approx((47.5, longitude), abs=0.1)
    centers = np.array([frame.center for frame in capture.frames])
    assert centers[1] - centers[0] == pytest.approx(poses()[1, :, 3] - poses()[0, :, 3], abs=0.01)
    assert np.abs(centers).max() < 2.0


@pytest.mark.parametrize(
    ("lens", "kind", "message"),
    [
        (METASHAPE_LENS, "spherical", "lens type spherical is not supported; cut perspective"),
        (METASHAPE_LENS, "equisolid_fisheye", "lens type equisolid_fisheye is not supported"),
        (METASHAPE_LENS + "<k4>0.1</k4>", "frame", "k4 is not supported"),
        (METASHAPE_LENS + "<b2>3</b2>", "frame", "skew b2 is not supported"),
        (METASHAPE_LENS, "fisheye", "p1 and p2 of a fisheye are not supported"),
        ("<f>wide</f>", "frame", "an entry is broken"),
        ("<f>nan</f>", "frame", "f is not 1 numbers"),
    ],
)
def test_lenses_that_cannot_be_represented_are_refused(project: Path, lens: str, kind: str, message: str) -> None:
    write_metashape(project / "cameras.xml", lens=lens, kind=kind)
    with pytest.raises(CaptureError, match=message):
        load_source(project)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</document>", "", "is not readable XML"),
        ("<transform>", "<matrix>", "is not readable XML"),
        ("<cameras>", "<cameras/><others>", "is not readable XML|holds no cameras"),
        ('sensor_id="0"', 'sensor_id="7"', "camera 0 has an unknown sensor"),
    ],
)
def test_broken_files_are_refused(project: Path, old: str, new: str, message: str) -> None:
    write_metashape(project / "cameras.xml")
    text = (project / "cameras.xml").read_text()
    (project / "cameras.xml").write_text(text.replace(old, new, 1))
    with pytest.raises(CaptureError, match=message):
        load_source(project)


def test_an_export_without_cameras_is_refused(project: Path) -> None:
    (project / "cameras.xml").write_text('<document version="2.0.0"><chunk/></document>')
    with pytest.raises(CaptureError, match=r"cameras\.xml: its first chunk holds no cameras; align the images"):
        load_source(project)
