"""Importer of drives of the KITTI raw data set (Geiger et al., "Vision meets Robotics", IJRR 2013).

Layout: `DATE/calib_cam_to_cam.txt`, `calib_imu_to_velo.txt` and `calib_velo_to_cam.txt`; in
`DATE/DATE_drive_NNNN_sync/`: `image_00` to `image_03` with `data/*.png` and `timestamps.txt`, `oxts`, and optionally
`velodyne_points` and `tracklet_labels.xml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, log, pi, radians, tan
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.lidar import LidarSweep
from blocknerf.errors import CaptureError, error_context
from blocknerf.geo import SEMI_MAJOR
from blocknerf.images import image_size
from blocknerf.importers.box_masks import Boxes, write_box_masks
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.kitti_labels import Labels, read_tracking_labels, read_tracklets
from blocknerf.importers.log_images import (
    RAW_POSES,
    check_complete,
    choose_cameras,
    choose_scene,
    inverse,
    log_pose,
    numbered_files,
    rectified_lens,
    rigid,
)
from blocknerf.importers.log_text import calibration_matrix, parse_numbers, read_calibration, read_dates, read_lines

CAMERAS = ("image_00", "image_01", "image_02", "image_03")
GRAY, COLOR = CAMERAS[:2], CAMERAS[2:]
_OXTS_VALUES = 30
_MAX_LATITUDE = 85.0
"""The Mercator projection has no finite poles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Calibration:
    lidar_to_camera: Float64[np.ndarray, "4 4"]
    """From the LiDAR to rectified camera 0."""
    imu_to_lidar: Float64[np.ndarray, "4 4"]
    lenses: dict[str, Intrinsics]
    centers: dict[str, Float64[np.ndarray, "3"]]
    """Centers of the cameras in the axes of rectified camera 0."""


def read_kitti_raw(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Return a synchronized and rectified drive; poses are those of GPS and IMU.

    World: east, north and up of the first fix, in KITTI's Mercator projection with the scale of its latitude.

    Raises:
        CaptureError: a file is missing or broken, the counts differ, or the drive is not rectified.
    """
    drive = _drive_folder(path, options)
    available = [name for name in CAMERAS if (drive / name / "data").is_dir()]
    if not available:
        raise CaptureError(
            f"{drive / 'image_02' / 'data'}: this folder does not exist; restore the images of the drive"
        )
    default = [name for name in available if name in COLOR] or available
    names = choose_cameras(available, options.cameras, default, drive)
    images = {name: _image_files(drive / name) for name in names}
    calibration = _read_calibration(drive, {name: files[0] for name, files in images.items()})
    fixes = _read_fixes(drive / "oxts" / "data", len(images[names[0]]), names[0])
    poses = _imu_poses(fixes)
    to_world = [pose @ inverse(calibration.imu_to_lidar) for pose in poses]
    frames = _frames(drive, images, calibration, to_world, fixes)
    sweeps, notes = _sweeps(drive, to_world)
    frames, mask_notes = _mask(drive, frames, calibration, to_world, work)
    with error_context(str(drive)):
        capture = Capture(
            image_dir=drive.resolve(),
            mask_dir=work.resolve() if any(frame.mask for frame in frames) else None,
            frames=tuple(frames),
            lidar_sweeps=tuple(sweeps),
            raw_poses=True,
            notes=(RAW_POSES, *notes, *mask_notes),
            is_metric=True,
            geo_origin=(float(fixes[0, 0]), float(fixes[0, 1]), float(fixes[0, 2])),
            source=f"KITTI raw {drive.name}",
        )
    check_files(capture)
    return capture


def _is_kitti_raw(path: Path) -> bool:
    return _is_drive(path) or ((path / "calib_cam_to_cam.txt").is_file() and bool(_drives(path)))


def _is_drive(path: Path) -> bool:
    return any((path / name / "data").is_dir() for name in CAMERAS)


def _drives(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.glob("*_drive_*") if _is_drive(entry))


def _drive_folder(path: Path, options: ImportOptions) -> Path:
    drive = path if _is_drive(path) else path / choose_scene(_drives(path), options.scene, path, "drive")
    if drive.resolve().name.endswith("_extract"):
        raise CaptureError(f"{drive}: is unsynchronized and not rectified; use the drive's _sync folder")
    return drive


def _image_files(camera: Path) -> list[Path]:
    """Return the images of a camera in order, one for each of its timestamps."""
    files = numbered_files(camera / "data", (".png", ".jpg"))
    lines = len(read_dates(camera / "timestamps.txt"))
    if not lines:
        raise CaptureError(f"{camera / 'timestamps.txt'}: is empty; restore it")
    suffix = next(iter(files.values())).suffix if files else ".png"
    check_complete(files, lines, camera / "data" / f"{0:010d}{suffix}", "image", f"timestamps.txt has {lines} lines")
    return [files[i] for i in range(lines)]


def _read_calibration(drive: Path, images: dict[str, Path]) -> _Calibration:
    folder = drive if (drive / "calib_cam_to_cam.txt").is_file() else drive.resolve().parent
    path = folder / "calib_cam_to_cam.txt"
    if not path.is_file():
        raise CaptureError(f"{path}: does not exist; put the three calibration files of the date next to the drive")
    cameras = read_calibration(path)
    lenses, centers = {}, {}
    for name, image in images.items():
        number = name[-2:]
        _check_rectified(cameras, number, image, path)
        projection = calibration_matrix(cameras, f"P_rect_{number}", (3, 4), path)
        lenses[name], centers[name] = rectified_lens(projection, image, f"{path}: P_rect_{number}")
    rectification = rigid(calibration_matrix(cameras, "R_rect_00", (3, 3), path))
    return _Calibration(
        lidar_to_camera=rectification @ _read_rigid(folder / "calib_velo_to_cam.txt"),
        imu_to_lidar=_read_rigid(folder / "calib_imu_to_velo.txt"),
        lenses=lenses,
        centers=centers,
    )


def _check_rectified(cameras: dict[str, str], number: str, image: Path, path: Path) -> None:
    """Raise if an image has the size before rectification (S) and not that after (S_rect)."""
    sizes = [
        tuple(map(int, calibration_matrix(cameras, f"{key}_{number}", (1, 2), path)[0]))
        if f"{key}_{number}" in cameras
        else None
        for key in ("S", "S_rect")
    ]
    if sizes[0] != sizes[1] and image_size(image) == sizes[0]:
        raise CaptureError(f"{image}: is not rectified; use the drive's _sync folder")


def _read_rigid(path: Path) -> Float64[np.ndarray, "4 4"]:
    calibration = read_calibration(path)
    rotation = calibration_matrix(calibration, "R", (3, 3), path)
    matrix = rigid(rotation, calibration_matrix(calibration, "T", (1, 3), path)[0])
    log_pose(matrix, str(path))
    return matrix


def _read_fixes(folder: Path, count: int, camera: str) -> Float64[np.ndarray, "frames 6"]:
    """Return latitude, longitude (degrees), altitude (m), roll, pitch and yaw (radians) of every frame."""
    files = numbered_files(folder, (".txt",))
    check_complete(files, count, folder / f"{0:010d}.txt", "fix of GPS and IMU", f"{camera} has {count} images")
    rows = []
    for number in range(count):
        lines = read_lines(files[number], "fix of GPS and IMU")
        rows.append(parse_numbers(lines[0] if lines else "", _OXTS_VALUES, f"{files[number]}: line 1")[:6])
    fixes = np.array(rows, np.float64)
    wrong = np.flatnonzero((np.abs(fixes[:, 0]) > _MAX_LATITUDE) | (np.abs(fixes[:, 1]) > 360.0))
    if len(wrong):
        latitude, longitude = fixes[wrong[0], :2]
        raise CaptureError(f"{files[wrong[0]]}: latitude {latitude:g}, longitude {longitude:g}: no place; correct it")
    return fixes


def _imu_poses(fixes: Float64[np.ndarray, "frames 6"]) -> list[Float64[np.ndarray, "4 4"]]:
    """Return the poses of the IMU (x forward, y left, z up) in the world, as KITTI's development kit defines them."""
    scale = cos(radians(fixes[0, 0]))
    positions = np.array([_mercator(latitude, longitude, scale) for latitude, longitude in fixes[:, :2]])
    positions -= positions[0]
    heights = fixes[:, 2] - fixes[0, 2]
    rotations = Rotation.from_euler("xyz", fixes[:, 3:]).as_matrix()
    return [
        rigid(rotation, (*position, height))
        for rotation, position, height in zip(rotations, positions, heights, strict=True)
    ]


def _mercator(latitude: float, longitude: float, scale: float) -> tuple[float, float]:
    return scale * SEMI_MAJOR * radians(longitude), scale * SEMI_MAJOR * log(tan(pi / 4 + radians(latitude) / 2))


def _frames(
    drive: Path,
    images: dict[str, list[Path]],
    calibration: _Calibration,
    to_world: Sequence[Float64[np.ndarray, "4 4"]],
    fixes: Float64[np.ndarray, "frames 6"],
) -> list[Frame]:
    """Return the frames, moment by moment."""
    times = {name: read_dates(drive / name / "timestamps.txt") for name in images}
    for name, files in images.items():
        if len(files) != len(to_world):
            counts = f"has {len(files)} images, but there are {len(to_world)} of the first camera"
            raise CaptureError(f"{drive / name / 'data'}: {counts}; restore the drive")
    frames = []
    for i, lidar in enumerate(to_world):
        for name, files in images.items():
            offset = rigid(np.eye(3), calibration.centers[name])
            image = f"{name}/data/{files[i].name}"
            frames.append(
                Frame(
                    name=image,
                    image=image,
                    intrinsics=calibration.lenses[name],
                    camera_to_world=log_pose(lidar @ inverse(calibration.lidar_to_camera) @ offset, image),
                    segment=drive.resolve().name,
                    camera=name,
                    timestamp=times[name][i],
                    gps=(float(fixes[i, 0]), float(fixes[i, 1]), float(fixes[i, 2])),
                    grayscale=name in GRAY,
                )
            )
    return frames


def _sweeps(drive: Path, to_world: Sequence[Float64[np.ndarray, "4 4"]]) -> tuple[list[LidarSweep], list[str]]:
    """Return the LiDAR sweeps that are there; some drives lack a few."""
    folder = drive / "velodyne_points"
    if not (folder / "data").is_dir():
        return [], []
    files, times = numbered_files(folder / "data", (".bin",)), read_dates(folder / "timestamps.txt")
    if len(times) != len(to_world) or (files and max(files) >= len(times)):
        counts = f"{len(times)} lines for {len(to_world)} moments and {len(files)} sweeps"
        raise CaptureError(f"{folder / 'timestamps.txt'}: has {counts}; restore the drive")
    sweeps = [
        LidarSweep(
            path=f"velodyne_points/data/{files[i].name}",
            timestamp=times[i],
            sensor_to_world=log_pose(to_world[i], str(files[i])),
        )
        for i in sorted(files)
    ]
    missing = len(times) - len(files)
    return sweeps, [f"{missing} of {len(times)} LiDAR sweeps do not exist"] if missing else []


def _mask(
    drive: Path,
    frames: list[Frame],
    calibration: _Calibration,
    to_world: Sequence[Float64[np.ndarray, "4 4"]],
    work: Path,
) -> tuple[list[Frame], list[str]]:
    """Write masks of the labels next to the images, if any."""
    tracklets = drive / "tracklet_labels.xml"
    tracking = [
        path for path in (drive / "label_02.txt", *sorted((drive / "label_02").glob("*.txt"))) if path.is_file()
    ]
    if tracklets.is_file():
        labels, sensor_to_world = read_tracklets(tracklets), list(to_world)
    elif tracking:
        if len(tracking) > 1:
            raise CaptureError(f"{tracking[1]}: is a second label file; keep only that of this drive")
        labels = read_tracking_labels(tracking[0])
        sensor_to_world = [lidar @ inverse(calibration.lidar_to_camera) for lidar in to_world]
    else:
        return frames, ["there are no labels of moving objects (tracklet_labels.xml, label_02); no masks"]
    cameras = len(frames) // len(to_world)
    boxes = [_boxes(labels, i // cameras, sensor_to_world[i // cameras], frames[i].camera) for i in range(len(frames))]
    return write_box_masks(frames, boxes, work)


def _boxes(labels: Labels, moment: int, sensor_to_world: Float64[np.ndarray, "4 4"], camera: str) -> Boxes:
    found = labels.get(moment, [])
    corners = [
        label.corners @ sensor_to_world[:3, :3].T + sensor_to_world[:3, 3]
        for label in found
        if label.corners is not None
    ]
    rectangles = [label.rectangle for label in found if label.rectangle is not None and camera == COLOR[0]]
    return Boxes(
        corners=np.array(corners, np.float64).reshape(-1, 8, 3),
        rectangles=np.array(rectangles, np.float64).reshape(-1, 4),
        classes=tuple(sorted({label.name for label in found})),
    )


KITTI_RAW = Importer(kind="a drive of KITTI raw", recognizes=_is_kitti_raw, read=read_kitti_raw)
