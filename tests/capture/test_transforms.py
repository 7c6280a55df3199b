"""The importer of `transforms.json`: conventions, defaults, camera models, and errors of broken files."""

import math

import numpy as np
import pytest
import torch

from blocknerf.cameras import CameraModel
from blocknerf.capture.frame import RIGID_TOLERANCE
from blocknerf.capture.transforms import read_transforms
from blocknerf.errors import CaptureError


def frames(data) -> list[dict]:
    return data["frames"]


def per_frame(data) -> None:
    """Move the intrinsics into the frames."""
    lens = {key: data.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    for i, frame in enumerate(frames(data)):
        frame.update(lens, fl_x=10.0 + i)


def test_file_and_folder_are_the_same(write_transforms):
    folder = write_transforms()
    assert read_transforms(folder) == read_transforms(folder / "transforms.json")


def test_opengl_axes_become_opencv_axes(write_transforms):
    capture = read_transforms(write_transforms())
    cameras = capture.cameras()
    assert torch.allclose(cameras.centers[2], torch.tensor([2.0, 2.0, 1.5]))
    forward, down = cameras.camera_to_world[0, :, 2], cameras.camera_to_world[0, :, 1]
    assert torch.allclose(forward, torch.tensor([-math.sin(0.2), math.cos(0.2), 0.0]))
    assert torch.allclose(down, torch.tensor([0.0, 0.0, -1.0]))
    assert torch.linalg.det(cameras.camera_to_world[0, :, :3]) > 0


def test_defaults(write_transforms):
    capture = read_transforms(write_transforms())
    first, second, _ = capture.frames
    assert [frame.name for frame in capture.frames] == ["images/0.png", "images/1.png", "images/2.png"]
    assert (first.camera, first.segment, first.grayscale) == ("0", "0", False)
    assert (first.timestamp, first.exposure, first.gps) == (None, None, None)
    assert (first.mask, second.mask, capture.sparse_points, capture.lidar_points) == (
        None,
        "masks/1.png",
        "a.ply",
        None,
    )
    assert [frame.sky_mask for frame in capture.frames] == [None, None, "skies/2.png"]
    assert (capture.is_metric, capture.geo_origin) == (False, None)
    assert first.intrinsics.model == CameraModel.PINHOLE


def test_metadata_is_read(write_transforms):
    def edit(data):
        data.update(unit="meter (ENU)", gps_origin_lat_lon_alt=[49.0, 8.4, 116], lidar_ply="a.ply", source="a car")
        metadata = {"sequence_id": "segment_5", "camera_id": 2, "timestamp": 1317042145.964, "grayscale": True}
        frames(data)[0].update(metadata, gps=[49.0, 8.4, 120], exposure=0.1, exposure_time=5, iso=7)
        frames(data)[1].update(exposure_time=0.001, iso=100, camera_id=3)

    capture = read_transforms(write_transforms(edit))
    first, second, third = capture.frames
    assert (first.segment, first.camera, first.grayscale, first.gps) == ("segment_5", "2", True, (49.0, 8.4, 120.0))
    assert (first.timestamp, first.exposure, second.exposure) == (1317042145.964, 0.1, pytest.approx(0.1))
    assert (capture.is_metric, capture.geo_origin, capture.lidar_points, capture.source) == (
        True,
        (49.0, 8.4, 116.0),
        "a.ply",
        "a car",
    )
    assert (second.segment, third.segment) == ("3", "0")


@pytest.mark.parametrize(
    ("keys", "is_metric"),
    [
        ({}, False),
        ({"unit": "meters"}, True),
        ({"unit": "m"}, True),
        ({"unit": "Meter (ENU, z up)"}, True),
        ({"unit": "Meter (ENU, z up)".replace("er", "re")}, True),  # British spelling
        ({"unit": "millimeter"}, False),
        ({"unit": "arbitrary (meters unknown)", "gps_origin_lat_lon_alt": [1, 2, 3]}, False),
        ({"gps_origin_lat_lon_alt": [1, 2, 3]}, True),
    ],
)
def test_a_capture_is_metric_only_if_the_file_says_so(write_transforms, keys, is_metric):
    assert read_transforms(write_transforms(lambda data: data.update(keys))).is_metric is is_metric


def test_per_frame_intrinsics_override_those_of_the_file(write_transforms):
    assert [frame.intrinsics.fx for frame in read_transforms(write_transforms(per_frame)).frames] == [10, 11, 12]
    mixed = read_transforms(write_transforms(lambda data: frames(data)[1].update(fl_x=20, camera_angle_y=1.0)))
    assert [frame.intrinsics.fx for frame in mixed.frames] == [10, 20, 10]
    assert mixed.frames[1].intrinsics.fy == pytest.approx(4 / math.tan(0.5))


def test_angles_of_view_and_missing_sizes(write_transforms):
    def edit(data):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del data[key]
        data["camera_angle_x"] = 2 * math.atan(0.5)

    lens = read_transforms(write_transforms(edit)).frames[0].intrinsics
    assert (lens.width, lens.height, lens.cx, lens.cy) == (12, 8, 6, 4)
    assert (lens.fx, lens.fy) == (pytest.approx(12), pytest.approx(12))


@pytest.mark.parametrize(
    ("keys", "model", "distortion"),
    [
        ({"camera_model": "PINHOLE"}, CameraModel.PINHOLE, (0, 0, 0, 0, 0, 0)),
        ({"camera_model": "OPENCV", "k1": 0, "k2": 0.0}, CameraModel.PINHOLE, (0, 0, 0, 0, 0, 0)),
        ({"camera_model": "OPENCV", "k1": 0.1, "p2": 0.01, "k3": 1}, CameraModel.OPENCV, (0.1, 0, 0, 0.01, 1, 0)),
        ({"k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4}, CameraModel.OPENCV, (0.1, 0.2, 0.3, 0.4, 0, 0)),
        ({"camera_model": "SIMPLE_RADIAL", "k1": -0.1}, CameraModel.OPENCV, (-0.1, 0, 0, 0, 0, 0)),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k4": 0.4}, CameraModel.FISHEYE, (0.1, 0, 0, 0, 0, 0.4)),
        ({"is_fisheye": True, "k3": 0.1}, CameraModel.FISHEYE, (0, 0, 0, 0, 0.1, 0)),
        ({"is_fisheye": False}, CameraModel.PINHOLE, (0, 0, 0, 0, 0, 0)),
    ],
)
def test_camera_models(write_transforms, keys, model, distortion):
    lens = read_transforms(write_transforms(lambda data: data.update(keys))).frames[2].intrinsics
    assert (lens.model, lens.distortion) == (model, distortion)


@pytest.mark.parametrize("spelling", ["images/0", "./images/0", "images\\0.png", "images/./0.png", "images//0.png"])
def test_spellings_of_a_path(write_transforms, spelling):
    capture = read_transforms(write_transforms(lambda data: frames(data)[0].update(file_path=spelling)))
    assert capture.frames[0].image == "images/0.png"
    assert capture.read_image(0).shape == (8, 12, 3)


def test_another_pose_key_can_be_chosen(write_transforms):
    def edit(data):
        for frame in frames(data):
            frame["transform_matrix_oxts"] = [[*row[:3], row[3] + 1.0] for row in frame["transform_matrix"][:3]]

    folder = write_transforms(edit)
    plain, other = (read_transforms(folder, poses=key) for key in ("transform_matrix", "transform_matrix_oxts"))
    assert torch.allclose(other.cameras().centers - plain.cameras().centers, torch.ones(3, 3))
    with pytest.raises(CaptureError, match=r"frames\[0\]\.transform_matrix_gps is missing; add it"):
        read_transforms(folder, poses="transform_matrix_gps")


def test_rounded_poses_are_made_orthonormal(write_transforms):
    def edit(data):
        for frame in frames(data):
            frame["transform_matrix"] = np.round(frame["transform_matrix"], 4).tolist()

    rotations = np.array([frame.camera_to_world for frame in read_transforms(write_transforms(edit)).frames])[:, :, :3]
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-14 < RIGID_TOLERANCE


def test_keys_of_other_programs_are_ignored(write_transforms):
    extra = {"aabb_scale": 16, "applied_transform": [[1, 0, 0, 0]], "orientation_override": "up", "scale": 2}
    assert read_transforms(write_transforms(lambda data: data.update(extra))) == read_transforms(write_transforms())


def scale_pose(data) -> None:
    frames(data)[0]["transform_matrix"] = [
        [2 * x for x in row[:3]] + row[3:] for row in frames(data)[0]["transform_matrix"][:3]
    ]


def set_pose(row: int, column: int, value: object):
    def edit(data) -> None:
        frames(data)[0]["transform_matrix"][row][column] = value

    return edit


def mirror_pose(data) -> None:
    for row in frames(data)[0]["transform_matrix"][:3]:
        row[0] = -row[0]


def frame_has(**keys: object):
    return lambda data: frames(data)[1].update(keys)


def file_has(**keys: object):
    return lambda data: data.update(keys)


def drop(key: str):
    return lambda data: data.pop(key)


ROWS = [[1, 0, 0, 2.0], [0, 0, -1, 3.0], [0, 1, 0, 1.5], [0, 0, 0, 1]]
INVALID_MATRICES = {
    "3x3": [row[:3] for row in ROWS[:3]],
    "2x4": ROWS[:2],
    "1x4": ROWS[:1],
    "4x3": [row[:3] for row in ROWS],
    "4x5": [[*row, 0] for row in ROWS],
    "5x4": [*ROWS, ROWS[3]],
    "empty": [],
    "empty rows": [[], [], []],
    "ragged": [ROWS[0], ROWS[1][:2], ROWS[2]],
}
"""Poses of the wrong shape."""
INVALID_ELEMENTS = {
    "deeper": ([[[number] for number in row] for row in ROWS], "[0][0] is [1], not a number"),
    "flat": ([number for row in ROWS for number in row], "[0] is 1, not a list"),
    "text": ([["far", 0, 0, 0], *ROWS[1:]], "[0][0] is 'far', not a number"),
    "one text per row": (["1000", "0100", "0010"], "[0] is '1000', not a list"),
    "true and false": ([ROWS[0], [True, False, False, 2.0], ROWS[2]], "[1][0] is True, not a number"),
    "null": ([[None, 0, 0, 2.0], *ROWS[1:]], "[0][0] is None, not a number"),
    "objects": ([{"x": 1}] * 3, "[0] is {'x': 1}, not a list"),
}
"""Poses that are not of numbers."""
NOT_LISTS = {"none": None, "a word": "identity", "a number": 3, "true": True, "an object": {"rows": 4}}

INVALID = {
    "no frames": (file_has(frames=[]), ": frames is empty; give at least one posed image"),
    "frames missing": (drop("frames"), ": frames is missing; add it"),
    "frames not a list": (file_has(frames={"a": 1}), ": frames is {'a': 1}, not a list; correct it"),
    "frame not an object": (file_has(frames=[3]), ": frames[0] is 3, not an object; correct it"),
    "image missing": (
        frame_has(file_path="images/9.png"),
        "/images/9.png: this image does not exist; restore it, or give the folder of the images with --images",
    ),
    "path climbs out": (
        frame_has(file_path="../1.png"),
        ": frames[1].file_path: path '../1.png' leaves the capture's folder; give one relative to it, without '..'",
    ),
    "path absolute": (frame_has(file_path="/etc/passwd"), "path '/etc/passwd' leaves the capture's folder"),
    "path with a drive": (frame_has(file_path="C:\\1.png"), "path 'C:/1.png' leaves the capture's folder"),
    "path of the folder": (frame_has(file_path="./"), "path './' leaves the capture's folder"),
    "path with two slashes": (frame_has(file_path="//host/1.png"), "path '//host/1.png' leaves the capture's folder"),
    "image a folder": (frame_has(file_path="images"), "/images: this image does not exist"),
    "path empty": (frame_has(file_path=""), "path '' leaves the capture's folder"),
    "mask climbs out": (frame_has(mask_path="a/../../1.png"), "frames[1].mask_path: path 'a/../../1.png' leaves"),
    "points climb out": (file_has(ply_file_path="../a.ply"), ": ply_file_path: path '../a.ply' leaves"),
    "sky missing": (frame_has(sky_mask_path="skies/9.png"), "/skies/9.png: this image does not exist"),
    "mask missing": (frame_has(mask_path="masks/9.png"), "/masks/9.png: this image does not exist"),
    "points missing": (
        file_has(ply_file_path="b.ply"),
        "/b.ply: this point file does not exist; restore it or remove its key",
    ),
    "duplicate": (frame_has(file_path="images/0.png"), ": duplicate frame images/0.png; list each image once"),
    "pose scaled": (
        scale_pose,
        ": frames[0].transform_matrix: the pose is not rigid (scale 2); remove scale and shear from its rotation",
    ),
    "pose mirrored": (mirror_pose, "the pose mirrors (determinant -1); give a right-handed rotation"),
    "pose NaN": (set_pose(1, 3, math.nan), ": frames[0].transform_matrix[1][3] is not a finite number; correct it"),
    "pose infinite": (
        set_pose(2, 3, math.inf),
        ": frames[0].transform_matrix[2][3] is not a finite number",
    ),
    "pose transposed": (
        set_pose(3, 0, 5.0),
        "the pose's last row is not 0 0 0 1; divide it out, or transpose the matrix",
    ),
    "focal zero": (
        file_has(fl_x=0),
        ": frames[0]: focal length (0, 11) is not positive; give it in pixels",
    ),
    "focal negative": (frame_has(fl_y=-4, fl_x=4), ": frames[1]: focal length (4, -4) is not positive"),
    "focal NaN": (file_has(fl_x=math.nan), ": fl_x is not a finite number; correct it"),
    "focal missing": (
        lambda data: [data.pop("fl_x"), data.pop("fl_y")],
        ": frames[0].fl_x is missing; give fl_x or camera_angle_x, per frame or for the whole file",
    ),
    "focal text": (file_has(fl_x="10"), ": fl_x is '10', not a number or null; correct it"),
    "angle flat": (
        lambda data: [data.pop("fl_x"), data.pop("fl_y"), data.update(camera_angle_x=math.pi)],
        ": camera_angle_x is 3.14159; give an angle of view in radians, below pi",
    ),
    "size mismatch": (
        file_has(w=24, h=16),
        ".png: the image is 12x8 but its camera says 24x16; rescale the image or correct w, h and the focal length",
    ),
    "size broken": (file_has(w=12.5), ": w is 12.5, not a whole number; correct it"),
    "size too large": (file_has(w=10**9), ": frames[0]: image size 1000000000x8 is beyond 65536 pixels"),
    "center too large": (file_has(cx=1e15), ": frames[0]: cx 1e+15 is not finite, or beyond 1e+06"),
    "focal beyond single precision": (
        file_has(fl_x=1e308),
        ": fl_x is 1e+308, not a number <= 9.223372036854776e+18",
    ),
    "pose too large": (set_pose(0, 3, 1e300), "the pose holds a number beyond 1e+12; subtract an offset"),
    "path part too long": (frame_has(file_path="x" * 300 + ".png"), "is too long or holds a control character"),
    "path with a line break": (
        frame_has(file_path="images/a\nb.png"),
        "'images/a\\nb.png' is too long or holds a control",
    ),
    "latitude beyond the pole": (
        file_has(gps_origin_lat_lon_alt=[122.0, 9.0, 400.0]),
        ": geographic origin: latitude 122 is not from -90 to 90; correct it",
    ),
    "size zero": (file_has(w=0), ": frames[0]: image size 0x8 is not positive"),
    "camera model": (
        file_has(camera_model="FOV"),
        ": camera_model is FOV; undistort the images to one of PERSPECTIVE, PINHOLE,",
    ),
    "k4 of a perspective": (file_has(k4=0.1), ": k4 is not part of camera model OPENCV; undistort the images"),
    "p1 of a fisheye": (
        file_has(camera_model="OPENCV_FISHEYE", p1=0.1),
        ": p1 is not part of camera model OPENCV_FISHEYE",
    ),
    "exposure negative": (frame_has(exposure=-1), "frame images/1.png: exposure -1 is not positive"),
    "gps short": (frame_has(gps=[1, 2]), ": frames[1].gps is [1, 2], not a list of length 3; correct it"),
    "gps infinite": (
        frame_has(gps=[1, 2, math.inf]),
        ": frames[1].gps[2] is not a finite number",
    ),
    "camera id a list": (frame_has(camera_id=[1]), ": frames[1].camera_id is [1], not a whole number or text or null"),
}


@pytest.mark.parametrize("name", INVALID_MATRICES)
def test_a_pose_of_the_wrong_shape_raises(write_transforms, name):
    folder = write_transforms(frame_has(transform_matrix=INVALID_MATRICES[name]))
    message = "the pose is not a 3x4 or 4x4 matrix of numbers; write one"
    with pytest.raises(CaptureError) as caught:
        read_transforms(folder)
    assert str(caught.value) == f"{folder}/transforms.json: frames[1].transform_matrix: {message}"


@pytest.mark.parametrize("name", INVALID_ELEMENTS)
def test_a_pose_of_other_values_raises(write_transforms, name):
    matrix, message = INVALID_ELEMENTS[name]
    folder = write_transforms(frame_has(transform_matrix=matrix))
    with pytest.raises(CaptureError) as caught:
        read_transforms(folder)
    assert str(caught.value) == f"{folder}/transforms.json: frames[1].transform_matrix{message}; correct it"


@pytest.mark.parametrize("name", NOT_LISTS)
def test_a_pose_that_is_not_a_list_raises(write_transforms, name):
    folder = write_transforms(frame_has(transform_matrix=NOT_LISTS[name]))
    with pytest.raises(CaptureError) as caught:
        read_transforms(folder)
    message = f"frames[1].transform_matrix is {NOT_LISTS[name]!r}, not a list; correct it"
    assert str(caught.value) == f"{folder}/transforms.json: {message}"


@pytest.mark.parametrize("name", INVALID)
def test_invalid_files_raise_a_one_line_message(write_transforms, name):
    edit, expected = INVALID[name]
    folder = write_transforms(edit)
    with pytest.raises(CaptureError) as caught:
        read_transforms(folder)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(folder))
    assert "; " in message
    assert "\n" not in message
