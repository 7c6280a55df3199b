"""Writers of the layouts of KITTI raw and KITTI odometry, from a drive through the sample town."""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from tests.importers.town_log import CAR_SIZE, FOCAL, HEIGHT, WIDTH, Moment

LATITUDE, LONGITUDE, ALTITUDE = 49.011212804408, 8.4228850417969, 112.83492279053
EARTH_RADIUS = 6378137.0
BASELINES = {0: 0.06, 1: -0.47, 2: 0.0, 3: -0.53}
"""Position of rectified camera 0 minus that of each camera, along x (m), plus that of camera 2."""
RECTIFICATION = Rotation.from_euler("xyz", (0.01, 0.02, -0.005)).as_matrix()
NAME = "2011_09_26_drive_0005_sync"


def write_raw(
    date: Path, moments: list[Moment], cameras: tuple[int, ...] = (0, 1, 2, 3), labels: str = "tracklets"
) -> Path:
    """Write a drive; the forward camera of the town is camera 2, and the other cameras are parallel to it."""
    drive = date / NAME
    lidar_to_camera = np.linalg.inv(camera_zero(moments[0])) @ moments[0].lidar
    imu_to_lidar = np.linalg.inv(moments[0].lidar) @ moments[0].vehicle
    _write_calibration(date, lidar_to_camera, imu_to_lidar)
    for number in cameras:
        folder = drive / f"image_{number:02d}"
        for i, moment in enumerate(moments):
            _write_png(folder / "data" / f"{i:010d}.png", moment, gray=number < 2)
        _write_times(folder / "timestamps.txt", moments)
    _write_oxts(drive / "oxts", [camera_zero(m) @ lidar_to_camera @ imu_to_lidar for m in moments], moments)
    lidars = [camera_zero(moment) @ lidar_to_camera for moment in moments]
    for i, (moment, lidar) in enumerate(zip(moments, lidars, strict=True)):
        _write_bin(drive / "velodyne_points" / "data" / f"{i:010d}.bin", moment, lidar)
    for name in ("timestamps", "timestamps_start", "timestamps_end"):
        _write_times(drive / "velodyne_points" / f"{name}.txt", moments)
    if labels == "tracklets":
        (drive / "tracklet_labels.xml").write_text(_tracklets(moments, lidars))
    if labels == "tracking":
        (drive / "label_02").mkdir()
        (drive / "label_02" / "0000.txt").write_text(_tracking_labels(moments))
    return drive


def write_odometry(
    sequence: Path, moments: list[Moment], cameras: tuple[int, ...] = (0, 1), named: bool = True
) -> Path:
    """Write a sequence of the odometry benchmark, with its poses next to the images."""
    for number in cameras:
        for i, moment in enumerate(moments):
            _write_png(sequence / f"image_{number}" / f"{i:06d}.png", moment, gray=number < 2)
    lines = [_numbers(_projection(number)) for number in range(4)]
    lidar_to_camera = np.linalg.inv(camera_zero(moments[0])) @ moments[0].lidar
    named_lines = [f"P{i}: {line}" for i, line in enumerate(lines)] + [f"Tr: {_numbers(lidar_to_camera[:3])}"]
    (sequence / "calib.txt").write_text("\n".join(named_lines if named else lines[:2]))
    world = np.linalg.inv(camera_zero(moments[0]))
    (sequence / "poses.txt").write_text("\n".join(_numbers((world @ camera_zero(m))[:3]) for m in moments) + "\n")
    (sequence / "times.txt").write_text("\n".join(f"{m.timestamp - moments[0].timestamp:.6e}" for m in moments))
    for i, moment in enumerate(moments):
        _write_bin(sequence / "velodyne" / f"{i:06d}.bin", moment, camera_zero(moment) @ lidar_to_camera)
    return sequence


def camera_zero(moment: Moment) -> np.ndarray:
    """Return the pose of rectified camera 0."""
    return camera_pose(moment, 0)


def camera_pose(moment: Moment, number: int) -> np.ndarray:
    """Return the pose of a rectified camera in the town's world."""
    offset = np.eye(4)
    offset[0, 3] = -BASELINES[number]
    return moment.cameras["forward"] @ offset


def _projection(number: int) -> np.ndarray:
    """Return P_rect; KITTI counts pixel centers as integers."""
    matrix = np.array([[FOCAL, 0, WIDTH / 2 - 0.5, 0], [0, FOCAL, HEIGHT / 2 - 0.5, 0], [0, 0, 1, 0]])
    matrix[:, 3] = matrix[:, :3] @ (BASELINES[number] - BASELINES[0], 0, 0)
    return matrix


def _write_calibration(date: Path, lidar_to_camera: np.ndarray, imu_to_lidar: np.ndarray) -> None:
    date.mkdir(parents=True, exist_ok=True)
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for number in range(4):
        lines += [f"S_{number:02d}: {2 * WIDTH} {2 * HEIGHT}", f"S_rect_{number:02d}: {WIDTH} {HEIGHT}"]
        lines += [
            f"R_rect_{number:02d}: {_numbers(RECTIFICATION)}",
            f"P_rect_{number:02d}: {_numbers(_projection(number))}",
        ]
    (date / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    unrectified = np.eye(4)
    unrectified[:3, :3] = RECTIFICATION.T
    for name, matrix in (("velo_to_cam", unrectified @ lidar_to_camera), ("imu_to_velo", imu_to_lidar)):
        text = f"calib_time: 25-May-2012 16:47:16\nR: {_numbers(matrix[:3, :3])}\nT: {_numbers(matrix[:3, 3])}\n"
        (date / f"calib_{name}.txt").write_text(text)


def _write_oxts(folder: Path, poses: list[np.ndarray], moments: list[Moment]) -> None:
    """Write fixes with a Mercator projection at the poses relative to the first position."""
    (folder / "data").mkdir(parents=True)
    (folder / "dataformat.txt").write_text("lat:     latitude of the oxts-unit (deg)\n")
    _write_times(folder / "timestamps.txt", moments)
    scale = np.cos(np.radians(LATITUDE))
    north = scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + LATITUDE) / 2))
    for i, pose in enumerate(poses):
        east_offset, north_offset, up_offset = pose[:3, 3] - poses[0][:3, 3]
        longitude = LONGITUDE + np.degrees(east_offset / (scale * EARTH_RADIUS))
        latitude = np.degrees(2 * np.arctan(np.exp((north + north_offset) / (scale * EARTH_RADIUS)))) - 90
        angles = Rotation.from_matrix(pose[:3, :3]).as_euler("xyz")
        values = [latitude, longitude, ALTITUDE + up_offset, *angles, *([0.0] * 19), 4, 10, 4, 4, 0]
        (folder / "data" / f"{i:010d}.txt").write_text(" ".join(map(repr, map(float, values))) + "\n")


def _tracklets(moments: list[Moment], lidars: list[np.ndarray]) -> str:
    """Return tracklets of the moving cars and of one static object, which stays unmasked."""
    items = []
    for number in range(min(len(moment.cars) for moment in moments)):
        poses = [np.linalg.inv(lidar) @ moment.cars[number] for moment, lidar in zip(moments, lidars, strict=True)]
        items.append(_tracklet("Car", poses))
    ahead = np.eye(4)
    ahead[:3, 3] = 8.0, 0.0, 0.0
    items.append(_tracklet("Traffic cone", [ahead] * len(moments)))
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>\n<!DOCTYPE boost_serialization>\n'
        '<boost_serialization signature="serialization::archive" version="9">\n<tracklets class_id="0">\n'
        f"<count>{len(items)}</count><item_version>1</item_version>{''.join(items)}</tracklets></boost_serialization>\n"
    )


def _tracklet(name: str, poses: list[np.ndarray]) -> str:
    length, width, height = CAR_SIZE
    entries = []
    for pose in poses:
        x, y, z = pose[:3, 3] - (0, 0, height / 2)
        rx, ry, rz = Rotation.from_matrix(pose[:3, :3]).as_euler("xyz")  # KITTI's own rx and ry are zero
        values = {"tx": x, "ty": y, "tz": z, "rx": rx, "ry": ry, "rz": rz}
        text = "".join(f"<{key}>{float(value)!r}</{key}>" for key, value in values.items())
        entries.append(f"<item>{text}<state>2</state><occlusion>0</occlusion></item>")
    return (
        f"<item><objectType>{name}</objectType><h>{height}</h><w>{width}</w><l>{length}</l>"
        f"<first_frame>0</first_frame><poses><count>{len(poses)}</count><item_version>2</item_version>"
        f"{''.join(entries)}</poses><finished>1</finished></item>"
    )


def _tracking_labels(moments: list[Moment]) -> str:
    length, width, height = CAR_SIZE
    lines = []
    for i, moment in enumerate(moments):
        for number, car in enumerate(moment.cars):
            local = np.linalg.inv(camera_zero(moment)) @ car
            angle = np.arctan2(-local[2, 0], local[0, 0])
            bottom = local[:3, 3] + (0, height / 2, 0)
            values = [*(10.0, 20.0, 30.0, 40.0), height, width, length, *bottom, angle]
            lines.append(f"{i} {number} Car 0 0 -1.5 " + " ".join(map(repr, map(float, values))))
        lines.append(f"{i} -1 DontCare -1 -1 -10 1 2 30 40 -1 -1 -1 -1000 -1000 -1000 -10")
    lines.append("0 9 Pedestrian -1 -1 -10 5 6 15 26 -1 -1 -1 -1000 -1000 -1000 -10")
    return "\n".join(lines) + "\n"


def _write_png(path: Path, moment: Moment, *, gray: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(moment.image("forward"))
    (image.convert("L") if gray else image).save(path, compress_level=1)


def _write_bin(path: Path, moment: Moment, lidar: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    local = (moment.points - lidar[:3, 3]) @ lidar[:3, :3]
    np.column_stack([local, np.ones(len(local))]).astype("<f4").tofile(path)


def _write_times(path: Path, moments: list[Moment]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for moment in moments:
        date = datetime.fromtimestamp(int(moment.timestamp), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"{date}.{round(moment.timestamp % 1 * 1e9):09d}")
    path.write_text("\n".join(lines) + "\n")


def _numbers(matrix: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in matrix.ravel())
