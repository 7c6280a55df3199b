"""An imported capture is corrected where that is certain, warned of where it is doubtful, and refused if impossible."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import Conventions, examine, outlying_frames, without_outliers
from blocknerf.capture.frame import Intrinsics
from blocknerf.capture.orientation import flip_axes
from blocknerf.errors import CaptureError
from blocknerf.similarity import to_rows, transform_pose
from tests.capture.worlds import drone, moved, street, turned, with_points

Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
AUTO = Conventions()
ANY_AXES = Conventions(camera_axes="auto")


def centers(capture: Capture) -> np.ndarray:
    return np.array([frame.center for frame in capture.frames])


@pytest.mark.parametrize("scene", [street(), drone()])
def test_a_sound_capture_is_left_as_it_is(scene: Capture, tmp_path: Path) -> None:
    for capture in (scene, with_points(scene, tmp_path)):
        assert examine(capture, ANY_AXES) == capture


def test_a_world_with_y_up_is_rotated_with_its_points(tmp_path: Path) -> None:
    scene = with_points(drone(), tmp_path)
    tilted = replace(turned(scene, Y_UP), source_to_world=to_rows(np.column_stack([Y_UP, np.zeros(3)])))
    found = examine(tilted, AUTO)
    assert len(found.notes) == 1
    assert "up is y, 90 degrees from +z" in found.notes[0]
    assert "--up z" in found.notes[0]
    assert np.allclose(centers(found), centers(scene), atol=1e-6)
    points, original = found.read_sparse_points(), scene.read_sparse_points()
    assert points is not None
    assert original is not None
    assert np.allclose(points.positions, original.positions, atol=1e-4)


def test_a_given_up_axis_is_used_without_a_note() -> None:
    tilted = turned(street(), Y_UP)
    assert np.allclose(centers(examine(tilted, Conventions(up="y"))), centers(street()), atol=1e-6)
    assert examine(tilted, Conventions(up="z")) == tilted


def test_a_world_with_a_geographic_origin_is_warned_of_but_not_rotated() -> None:
    tilted = replace(turned(street(), Y_UP), geo_origin=(48.0, 9.0, 400.0))
    found = examine(tilted, AUTO)
    assert found.frames == tilted.frames
    assert "geographic origin; check its poses" in found.notes[0]


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("scene", [street(), drone()])
def test_opencv_axes_are_corrected_where_the_format_leaves_them_open(
    scene: Capture, points: bool, tmp_path: Path
) -> None:
    scene = with_points(scene, tmp_path) if points else scene
    found = examine(flip_axes(scene), ANY_AXES)
    assert found.frames == scene.frames
    assert "camera axes are OpenCV's" in found.notes[0]
    assert examine(flip_axes(scene), Conventions(camera_axes="opencv")).frames == scene.frames
    kept = examine(flip_axes(scene), Conventions(camera_axes="opengl", up="z"))
    assert kept.frames == flip_axes(scene).frames


def test_a_capture_in_map_coordinates_is_moved_near_the_origin() -> None:
    offset = (513_000.25, 5_402_000.5, 451.7)
    far = moved(street(headings=(0.2, 1.2)), offset)
    with pytest.raises(CaptureError, match="rounds them"):
        far.cameras()
    found = examine(far, AUTO)
    assert np.abs(centers(found)).max() < 1e3
    shift = np.array(found.source_to_world)[:, 3]
    assert np.array_equal(shift, np.round(shift))
    assert np.allclose(centers(found) - shift, centers(far), atol=1e-9)
    assert found.notes[0].startswith("moved by (-5130")
    found.cameras()


def test_a_moved_geographic_origin_keeps_the_place() -> None:
    far = replace(moved(street(), (5_000.0, 0.0, 20.0)), geo_origin=(0.0, 9.0, 400.0))
    found = examine(far, AUTO)
    assert found.geo_origin is not None
    east = -found.source_to_world[0][3]
    assert found.geo_origin[1] == pytest.approx(9.0 + east / 111_319.5, abs=1e-5)


def test_points_of_another_world_are_left_out(tmp_path: Path) -> None:
    scene = replace(
        with_points(drone(), tmp_path), source_to_world=to_rows(np.column_stack([np.eye(3), [900.0, 0, 0]]))
    )
    found = examine(scene, AUTO)
    assert found.sparse_points is None
    assert "none of the points is in any image" in found.notes[0]


def test_a_camera_far_from_all_others_is_named() -> None:
    scene = street()
    frame = scene.frames[4]
    pose = np.array(frame.camera_to_world)
    pose[:, 3] += 5_000.0
    stray = replace(scene, frames=(*scene.frames[:4], replace(frame, camera_to_world=to_rows(pose)), *scene.frames[5:]))
    assert outlying_frames(stray) == [4]
    assert without_outliers(stray).frames == scene.frames[:4] + scene.frames[5:]
    assert any("004.jpg: 8.66e+03 m from the other cameras" in note for note in examine(stray, AUTO).notes)
    assert outlying_frames(scene) == []
    assert without_outliers(scene) is scene


def test_two_places_of_one_capture_are_no_outliers() -> None:
    scene = street()
    other = moved(street(), (5_000.0, 0.0, 0.0))
    both = replace(
        scene, frames=scene.frames + tuple(replace(f, name=f"b{f.name}", image=f"b{f.name}") for f in other.frames)
    )
    assert outlying_frames(both) == []


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        ({"fx": 4.0}, r"fl_x 4 makes an angle of view of 175\.\d degrees over 192 pixels; .*not in millimeters"),
        ({"fy": 1e5}, "fl_y 100000 makes an angle of view of 0.1 degrees"),
        ({"cx": 0.5, "cy": 0.5}, r"principal point \(0\.5, 0\.5\) is a corner of the image; multiply"),
        ({"cx": 0.0, "cy": 0.0}, r"principal point \(0, 0\) is outside the image of 192x108"),
        ({"cx": 54.0, "cy": 96.0, "height": 95}, "swap cx and cy"),
        ({"cx": 1920.0}, "outside the image of 192x108; correct cx and cy"),
    ],
)
def test_impossible_lenses_are_refused(lens: dict[str, float], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        examine(_with_lens(street(), lens), AUTO)


def test_a_fisheye_may_see_more_than_a_half_space() -> None:
    scene = _with_lens(street(), {"fx": 50.0, "fy": 50.0, "model": CameraModel.FISHEYE})
    assert examine(scene, AUTO) == scene


def test_one_focal_length_for_images_of_two_sizes_is_refused() -> None:
    scene = street()
    lens = Intrinsics(width=96, height=54, fx=114.0, fy=114.0, cx=48.0, cy=27.0)
    mixed = replace(scene, frames=(replace(scene.frames[0], intrinsics=lens), *scene.frames[1:]))
    with pytest.raises(CaptureError, match=r"000\.jpg and 001\.jpg have one focal length, 114 pixels, for images"):
        examine(mixed, AUTO)


def test_poses_and_points_transform_alike(tmp_path: Path) -> None:
    scene = with_points(street(), tmp_path)
    transform = to_rows(np.column_stack([2.0 * Y_UP, [1.0, 2.0, 3.0]]))
    pose = np.array(transform_pose(scene.frames[3].camera_to_world, transform))
    assert np.allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3))
    cloud = scene.read_sparse_points()
    assert cloud is not None
    before = (cloud.positions - scene.frames[3].center) @ np.array(scene.frames[3].camera_to_world)[:, :3]
    after = (cloud.transformed(transform).positions - pose[:, 3]) @ pose[:, :3]
    assert np.allclose(after, 2.0 * before, atol=1e-3), "points keep their place in the image"


def _with_lens(capture: Capture, changes: dict[str, float]) -> Capture:
    lens = replace(capture.frames[0].intrinsics, **changes)
    return replace(capture, frames=tuple(replace(frame, intrinsics=lens) for frame in capture.frames))
