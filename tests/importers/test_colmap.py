"""COLMAP models: exact poses and lenses, all layouts, and one line for what cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError
from blocknerf.importers.colmap import colmap_lens
from blocknerf.importers.colmap_files import MODEL_PARAMETERS, ColmapCamera
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.sources import NAMES, POINTS, poses, write_colmap, write_images


def matrices(capture: Capture) -> np.ndarray:
    return np.array([frame.camera_to_world for frame in capture.frames])


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("given", ["", "sparse", "sparse/0", "sparse/0/images.{kind}"])
def test_poses_lens_and_points_are_exact(tmp_path: Path, text: bool, given: str) -> None:
    write_images(tmp_path / "project" / "images")
    write_colmap(tmp_path / "project" / "sparse" / "0", text=text)
    source = tmp_path / "project" / given.format(kind="txt" if text else "bin")
    capture = load_source(source, work=tmp_path / "work")
    assert capture.image_dir == tmp_path / "project" / "images"
    assert [frame.image for frame in capture.frames] == list(NAMES)
    assert matrices(capture) == pytest.approx(poses(), abs=1e-12)
    lens = capture.frames[0].intrinsics
    assert (lens.fx, lens.fy, lens.cx, lens.cy, lens.model) == (20.0, 21.0, 12.5, 8.0, CameraModel.PINHOLE)
    assert {frame.camera for frame in capture.frames} == {"1"}
    cloud = capture.read_sparse_points()
    assert cloud is not None
    assert cloud.colors is not None
    assert np.concatenate([cloud.positions, cloud.colors], -1) == pytest.approx(np.array(POINTS))
    assert not capture.is_metric


@pytest.mark.parametrize("model", ["dense/sparse", "colmap/sparse/0", "."])
def test_other_layouts(tmp_path: Path, model: str) -> None:
    write_images(tmp_path / "project" / "images")
    write_colmap(tmp_path / "model")
    folder = tmp_path / "project" / model
    folder.mkdir(parents=True, exist_ok=True)
    for file in (tmp_path / "model").iterdir():
        file.rename(folder / file.name)
    assert len(load_source(tmp_path / "project", work=tmp_path / "work")) == 4


def test_the_largest_model_is_read_and_named(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_colmap(tmp_path / "sparse" / "0", NAMES[:2])
    write_colmap(tmp_path / "sparse" / "1")
    capture = load_source(tmp_path, work=tmp_path / "work")
    assert len(capture) == 4
    assert capture.notes == ("2 COLMAP models in sparse; read the largest, 1",)


def test_subfolders_are_segments_and_colmap_cameras_are_cameras(tmp_path: Path) -> None:
    names = ["north/a.png", "north/b.png", "south/a.png", "south/b.png"]
    write_images(tmp_path / "images", names)
    write_colmap(tmp_path / "sparse", names, cameras=[1, 7, 1, 7])
    capture = load_source(tmp_path, work=tmp_path / "work")
    assert [(frame.segment, frame.camera) for frame in capture.frames] == [
        ("north", "1"), ("north", "7"), ("south", "1"), ("south", "7"),
    ]  # fmt: skip


def test_a_camera_for_each_image_counts_as_one(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_colmap(tmp_path / "sparse", cameras=[1, 2, 3, 4])
    assert {frame.camera for frame in load_source(tmp_path, work=tmp_path / "work").frames} == {"0"}


def test_smaller_images_scale_the_lens(tmp_path: Path) -> None:
    write_images(tmp_path / "images_2", size=(12, 8))
    write_colmap(tmp_path / "sparse" / "0")
    capture = load_source(tmp_path, work=tmp_path / "work")
    lens = capture.frames[0].intrinsics
    assert (lens.size, lens.fx, lens.fy, lens.cx, lens.cy) == ((12, 8), 10.0, 10.5, 6.25, 4.0)
    assert capture.notes == ("4 images are 12x8, but their cameras 24x16: intrinsics are scaled by 0.5",)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((16, 24), r"0\.png: the image is 16x24, but its camera says 24x16; rotate its pixels"),
        ((24, 12), "another shape"),
    ],
)
def test_images_of_another_shape_are_refused(tmp_path: Path, size: tuple[int, int], message: str) -> None:
    write_images(tmp_path / "images", size=size)
    write_colmap(tmp_path / "sparse" / "0")
    with pytest.raises(CaptureError, match=message):
        load_source(tmp_path, work=tmp_path / "work")


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "images", NAMES[:2])
    write_colmap(tmp_path / "sparse" / "0")
    with pytest.raises(CaptureError, match=r"images: 2 of 4 images do not exist: 2\.png, 3\.png; restore them"):
        load_source(tmp_path, work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_model_without_a_folder_of_images_asks_for_it(tmp_path: Path) -> None:
    write_colmap(tmp_path / "a" / "b" / "c" / "sparse" / "0")
    with pytest.raises(CaptureError, match=r"no folder of images was found for 0\.png; give the folder"):
        load_source(tmp_path / "a" / "b" / "c", work=tmp_path / "work")
    write_images(tmp_path / "elsewhere")
    options = ImportOptions(images=tmp_path / "elsewhere")
    assert len(load_source(tmp_path / "a" / "b" / "c", options, tmp_path / "work")) == 4
    with pytest.raises(CaptureError, match="nowhere: this folder of images does not exist; check --images"):
        load_source(tmp_path / "a" / "b" / "c", ImportOptions(images=tmp_path / "nowhere"), tmp_path / "work")


def test_names_that_differ_in_case_or_encoding_are_found(tmp_path: Path) -> None:
    on_disk = ["IMG_0.PNG", "a b.png", "caf\u00e9.png", "3.jpg"]
    write_images(tmp_path / "images", [*on_disk[:3], "3.jpg"])
    write_colmap(tmp_path / "sparse" / "0", ["img_0.png", "a%20b.png", "cafe\u0301.png", "3.png"])
    capture = load_source(tmp_path, work=tmp_path / "work")
    assert sorted(frame.image for frame in capture.frames) == sorted(on_disk)
    assert capture.notes == ("4 of 4 images have other names on disk: 3.png is 3.jpg",)


LENSES = {
    "SIMPLE_PINHOLE": ((9, 1, 2), (9, 9, 1, 2), CameraModel.PINHOLE, (0, 0, 0, 0, 0, 0)),
    "SIMPLE_RADIAL": ((9, 1, 2, 0.1), (9, 9, 1, 2), CameraModel.OPENCV, (0.1, 0, 0, 0, 0, 0)),
    "RADIAL": ((9, 1, 2, 0.1, 0.2), (9, 9, 1, 2), CameraModel.OPENCV, (0.1, 0.2, 0, 0, 0, 0)),
    "OPENCV": ((9, 8, 1, 2, 0.1, 0.2, 0.3, 0.4), (9, 8, 1, 2), CameraModel.OPENCV, (0.1, 0.2, 0.3, 0.4, 0, 0)),
    "OPENCV_FISHEYE": ((9, 8, 1, 2, 0.1, 0.2, 0.3, 0.4), (9, 8, 1, 2), CameraModel.FISHEYE, (0.1, 0.2, 0, 0, 0.3, 0.4)),
    "FULL_OPENCV": (
        (9, 8, 1, 2, 0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0), (9, 8, 1, 2), CameraModel.OPENCV, (0.1, 0.2, 0.3, 0.4, 0.5, 0),
    ),
    "SIMPLE_RADIAL_FISHEYE": ((9, 1, 2, 0.1), (9, 9, 1, 2), CameraModel.FISHEYE, (0.1, 0, 0, 0, 0, 0)),
    "RADIAL_FISHEYE": ((9, 1, 2, 0.1, 0.2), (9, 9, 1, 2), CameraModel.FISHEYE, (0.1, 0.2, 0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("model", LENSES)
def test_lens_models(model: str) -> None:
    parameters, focal, kind, distortion = LENSES[model]
    lens = colmap_lens(ColmapCamera(model=model, width=4, height=6, parameters=tuple(map(float, parameters))))
    assert ((lens.fx, lens.fy, lens.cx, lens.cy), lens.model, lens.distortion) == (focal, kind, distortion)


@pytest.mark.parametrize("model", sorted({*MODEL_PARAMETERS} - {*LENSES, "PINHOLE"}))
def test_other_lens_models_are_refused_by_name(tmp_path: Path, model: str) -> None:
    write_images(tmp_path / "images")
    write_colmap(tmp_path / "sparse" / "0", model=model, parameters=[9.0] * MODEL_PARAMETERS[model])
    with pytest.raises(CaptureError, match=f"camera 1: camera model {model} is not supported; (undistort|cut)"):
        load_source(tmp_path, work=tmp_path / "work")


def test_rational_distortion_is_refused() -> None:
    camera = ColmapCamera(model="FULL_OPENCV", width=4, height=6, parameters=(9.0,) * 12)
    with pytest.raises(CaptureError, match="FULL_OPENCV with k4, k5 or k6 is not supported"):
        colmap_lens(camera)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("damage", ["cut", "count", "empty"])
def test_damaged_files_are_refused_with_one_line(tmp_path: Path, part: str, damage: str) -> None:
    write_images(tmp_path / "images")
    write_colmap(tmp_path / "sparse" / "0")
    file = tmp_path / "sparse" / "0" / f"{part}.bin"
    content = file.read_bytes()
    file.write_bytes({"cut": content[:-9], "count": b"\xff" * 8 + content[8:], "empty": b""}[damage])
    with pytest.raises(CaptureError, match=rf"{part}\.bin: .* cannot be read \(.*\); copy the model again"):
        load_source(tmp_path, work=tmp_path / "work")


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("cameras", "PINHOLE", "LENS", r"cameras\.txt: line 2 .*unknown camera model 'LENS'"),
        ("cameras", "20.0 ", "", r"cameras\.txt: line 2 .*3 parameters; PINHOLE has 4"),
        ("images", "1 0.png", "1", r"images\.txt: line 2 .*a field is missing"),
        ("images", "1 0.png", "5 0.png", r"image 0\.png has camera 5, which is not in the model"),
        ("images", "0.png", "../0.png", r"path '\.\./0\.png' leaves"),
        ("points3D", "255", "red", r"points3D\.txt: line 2"),
        ("points3D", "9.0", "nan", r"points3D\.txt: holds points that are not finite"),
    ],
)  # fmt: skip
def test_wrong_text_is_refused_with_its_line(tmp_path: Path, part: str, old: str, new: str, message: str) -> None:
    write_images(tmp_path / "images")
    write_colmap(tmp_path / "sparse" / "0", text=True)
    file = tmp_path / "sparse" / "0" / f"{part}.txt"
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, 1))
    with pytest.raises(CaptureError, match=message):
        load_source(tmp_path, work=tmp_path / "work")


@pytest.mark.parametrize("name", ["street_kitti0005", "street_kitti0001", "drone_caliterra", "street_lund"])
def test_real_models_have_the_cameras_of_their_transforms(real_captures: Path, name: str, tmp_path: Path) -> None:
    folder = real_captures / name
    expected = {frame.image.removeprefix("images/"): frame for frame in load_source(folder).frames}
    capture = load_source(folder / "sparse", work=tmp_path)
    assert {frame.image for frame in capture.frames} == set(expected)
    for frame in capture.frames:
        other = expected[frame.image]
        assert frame.intrinsics == other.intrinsics
        # The bundle adjustment left the right camera of KITTI's rig up to 0.7 mm from its calibrated baseline.
        atol = 1e-3 if frame.image.startswith("cam3") else 1e-5
        assert np.array(frame.camera_to_world)[:, :3] == pytest.approx(np.array(other.camera_to_world)[:, :3], abs=1e-5)
        assert frame.center == pytest.approx(other.center, abs=atol)
