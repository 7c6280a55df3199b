"""KITTI raw and odometry come back from their real layouts as they were written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.kitti_odometry import CAMERA_TO_WORLD
from blocknerf.importers.recognition import load_source
from tests.importers.log_checks import check_box_mask, check_poses, check_sweeps, refusal
from tests.importers.town_log import FOCAL, HEIGHT, WIDTH, Moment
from tests.importers.write_kitti import (
    ALTITUDE,
    LATITUDE,
    LONGITUDE,
    NAME,
    camera_pose,
    camera_zero,
    write_odometry,
    write_raw,
)


def _origin(moments: list[Moment]) -> np.ndarray:
    """Return the first position of the IMU in the town's world, the origin of the imported one."""
    return moments[0].vehicle[:3, 3]


def _shifted(pose: np.ndarray, origin: np.ndarray) -> np.ndarray:
    moved = pose.copy()
    moved[:3, 3] -= origin
    return moved


@pytest.mark.parametrize("cameras", [(), ("0", "image_02"), ("image_03",)])
def test_raw_drive(tmp_path: Path, moments: list[Moment], cameras: tuple[str, ...]) -> None:
    drive = write_raw(tmp_path / "2011_09_26", moments)
    capture = load_source(drive, ImportOptions(cameras=cameras), tmp_path / "work")
    numbers = {(): (2, 3), ("0", "image_02"): (0, 2), ("image_03",): (3,)}[cameras]
    expected = {
        f"image_{number:02d}/data/{i:010d}.png": _shifted(camera_pose(moment, number), _origin(moments))
        for i, moment in enumerate(moments)
        for number in numbers
    }
    check_poses(capture, expected)
    check_sweeps(capture, moments, _origin(moments))
    lens = capture.frames[0].intrinsics
    np.testing.assert_allclose((lens.fx, lens.fy, lens.cx, lens.cy), (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
    assert [frame.timestamp for frame in capture.frames] == pytest.approx(
        [moment.timestamp for moment in moments for _ in numbers], abs=1e-6
    )
    assert {frame.grayscale for frame in capture.frames} == {number < 2 for number in numbers}
    assert capture.geo_origin == pytest.approx((LATITUDE, LONGITUDE, ALTITUDE))
    assert capture.frames[0].gps == capture.geo_origin
    assert capture.is_metric
    assert capture.raw_poses
    assert any("--pose-refinement" in note for note in capture.notes)


@pytest.mark.parametrize("labels", ["tracklets", "tracking"])
def test_raw_masks(tmp_path: Path, moments: list[Moment], labels: str) -> None:
    drive = write_raw(tmp_path / "2011_09_26", moments, cameras=(2, 3), labels=labels)
    capture = load_source(drive, work=tmp_path / "work")
    pedestrian = np.zeros((HEIGHT, WIDTH), np.bool_)
    pedestrian[6:26, 5:15] = labels == "tracking"  # a label without a size, in camera 2 only
    for index, moment in enumerate(moments):
        check_box_mask(capture, 2 * index, moment, "forward", pedestrian & (index == 0))
    other = capture.read_mask(1)
    assert other is None or other[6:26, 5:15].all()
    assert any("labeled boxes mask" in note and "Car" in note for note in capture.notes)
    write_capture(capture, tmp_path / "capture.json")
    assert read_capture(tmp_path / "capture.json") == capture


def test_raw_date_folder_needs_a_scene(tmp_path: Path, moments: list[Moment]) -> None:
    date = tmp_path / "2011_09_26"
    write_raw(date, moments, cameras=(2,))
    assert len(load_source(date, work=tmp_path / "work")) == len(moments)
    other = NAME.replace("0005", "0001")
    (date / NAME).rename(date / other)
    write_raw(date, moments, cameras=(2,))
    assert refusal(date, tmp_path / "work").endswith(f"choose one with --scene: {other}, {NAME}")
    assert load_source(date, ImportOptions(scene=other), tmp_path / "work").frames[0].segment == other


def _append(path: str, text: str) -> Callable[[Path], None]:
    return lambda drive: (drive / path).write_text((drive / path).read_text() + text)  # type: ignore[return-value]


def _replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda drive: (drive / path).write_text((drive / path).read_text().replace(old, new))  # type: ignore[return-value]


def _remove(path: str) -> Callable[[Path], None]:
    return lambda drive: (drive / path).unlink()


def _cut(path: str) -> Callable[[Path], None]:
    return lambda drive: (drive / path).write_bytes((drive / path).read_bytes()[:-3])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("../calib_cam_to_cam.txt"), "put the three calibration files of the date next to the drive"),
        (_remove("../calib_velo_to_cam.txt"), "calib_velo_to_cam.txt: this calibration file does not exist"),
        (_replace("../calib_cam_to_cam.txt", "P_rect_02", "Q"), "calib_cam_to_cam.txt: P_rect_02 is missing"),
        (_replace("../calib_imu_to_velo.txt", "T: ", "T: 1 "), "T: has 4 values instead of 3"),
        (_remove("image_02/timestamps.txt"), "image_02/timestamps.txt: this timestamp file does not exist"),
        (_append("image_02/timestamps.txt", "yesterday\n"), "line 4: 'yesterday' is not a time like"),
        (_append("image_02/timestamps.txt", "2011-09-26 13:02:25.9\n"), "0000000003.png: this image does not exist"),
        (_remove("image_02/data/0000000001.png"), "0000000001.png: this image does not exist (1 missing, since"),
        (_remove("oxts/data/0000000002.txt"), "0000000002.txt: this fix of GPS and IMU does not exist"),
        (_replace("oxts/data/0000000001.txt", "4.0", "nan"), "0000000001.txt: line 1: 'nan' is not a finite number"),
        (_cut("velodyne_points/data/0000000001.bin"), "0000000001.bin: cut short"),
        (_remove("velodyne_points/timestamps.txt"), "velodyne_points/timestamps.txt: this timestamp file does not"),
        (_append("velodyne_points/timestamps.txt", "2011-09-26 13:02:25.9\n"), "has 4 lines for 3 moments"),
        (_cut("tracklet_labels.xml"), "tracklet_labels.xml: is not valid XML"),
        (_replace("tracklet_labels.xml", "<h>1.44", "<h>inf"), "tracklet 0: h: 'inf' is not a finite number"),
        (lambda drive: drive.rename(drive.with_name("x_extract")), "use the drive's _sync folder"),
    ],
)  # fmt: skip
def test_raw_damage_is_refused(
    tmp_path: Path, moments: list[Moment], damage: Callable[[Path], None], message: str
) -> None:
    drive = write_raw(tmp_path / "2011_09_26", moments, cameras=(2,))
    damage(drive)
    drive = next((tmp_path / "2011_09_26").glob("*_*/"))
    assert message in refusal(drive, tmp_path / "work")


def test_raw_drive_without_all_sweeps(tmp_path: Path, moments: list[Moment]) -> None:
    drive = write_raw(tmp_path / "2011_09_26", moments, cameras=(2,), labels="none")
    (drive / "velodyne_points" / "data" / "0000000001.bin").unlink()
    capture = load_source(drive, work=tmp_path / "work")
    assert len(capture.lidar_sweeps) == 2
    assert capture.read_sweep(1) is None
    assert "1 of 3 LiDAR sweeps do not exist" in capture.notes
    assert all(frame.mask is None for frame in capture.frames)


@pytest.mark.parametrize("named", [True, False])
def test_odometry_sequence(tmp_path: Path, moments: list[Moment], named: bool) -> None:
    sequence = write_odometry(tmp_path / "dataset" / "sequences" / "05", moments, named=named)
    if named:  # as published: poses of all sequences in one folder
        (tmp_path / "dataset" / "poses").mkdir()
        (sequence / "poses.txt").rename(tmp_path / "dataset" / "poses" / "05.txt")
    else:
        (sequence / "times.txt").unlink()
    capture = load_source(tmp_path / "dataset", work=tmp_path / "work")
    world = CAMERA_TO_WORLD @ np.linalg.inv(camera_zero(moments[0]))
    expected = {
        f"image_{number}/{i:06d}.png": world @ camera_pose(moment, number)
        for i, moment in enumerate(moments)
        for number in (0, 1)
    }
    check_poses(capture, expected)
    first = np.array(capture.frames[0].camera_to_world)
    np.testing.assert_allclose(first[:, 1], (0, 0, -1), atol=1e-9)  # down in the image is down in the world
    assert capture.raw_poses
    assert capture.is_metric
    if named:
        cloud = capture.read_sweep(2)
        assert cloud is not None
        np.testing.assert_allclose(cloud.positions, moments[1].points @ world[:3, :3].T + world[:3, 3], atol=2e-5)
    else:
        assert not capture.lidar_sweeps
        assert [frame.timestamp for frame in capture.frames] == [0.0, 0.0, 0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("poses.txt"), "KITTI has poses for 00 to 10 only"),
        (_append("poses.txt", "1 2 3\n"), "poses.txt: line 4: has 3 values instead of 12"),
        (_append("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n"), "there are 4 poses; restore"),
        (_append("times.txt", "\nx"), "times.txt: line 4: 'x' is not a finite number"),
        (_remove("image_1/000002.png"), "image_1/000002.png: this image does not exist (1 missing, since"),
        (_replace("calib.txt", "P1:", "P9:"), "calib.txt: P1 is missing"),
        (_replace("calib.txt", "P1: ", "P1: 7 "), "calib.txt: P1: has 13 values instead of 12"),
        (_cut("velodyne/000000.bin"), "000000.bin: cut short"),
    ],
)
def test_odometry_damage_is_refused(
    tmp_path: Path, moments: list[Moment], damage: Callable[[Path], None], message: str
) -> None:
    sequence = write_odometry(tmp_path / "05", moments)
    damage(sequence)
    assert message in refusal(sequence, tmp_path / "work")


def test_real_odometry(real_captures: Path, tmp_path: Path) -> None:
    capture = load_source(real_captures / "kitti_odometry", work=tmp_path)
    assert (len(capture), len(capture.lidar_sweeps)) == (60, 0)
    heights = [frame.center[2] for frame in capture.frames]
    assert max(heights) - min(heights) < 2.0
    right, left = (np.array(frame.center) for frame in (capture.frames[1], capture.frames[0]))
    assert np.linalg.norm(right - left) == pytest.approx(0.537, abs=1e-3)
