"""Importer of sequences of the KITTI odometry benchmark (Geiger et al., CVPR 2012).

Layout: `calib.txt`, `image_0` to `image_3` with numbered images, optionally `times.txt` and `velodyne`; poses next to
them in `poses.txt`, or in `../../poses/NN.txt` for `sequences/NN`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame
from blocknerf.capture.lidar import LidarSweep
from blocknerf.errors import CaptureError, error_context
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.importers.log_images import (
    RAW_POSES,
    check_complete,
    choose_cameras,
    choose_scene,
    log_pose,
    numbered_files,
    rectified_lens,
    rigid,
)
from blocknerf.importers.log_text import calibration_matrix, read_calibration, read_lines, read_table

CAMERAS = ("image_0", "image_1", "image_2", "image_3")
GRAY, COLOR = CAMERAS[:2], CAMERAS[2:]
SECONDS = 0.1
"""Time between images where `times.txt` is absent; the cameras record at 10 Hz."""
CAMERA_TO_WORLD = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""From the benchmark's world, the axes of camera 0 in its first image (x right, y down, z forward), to z up."""


def read_kitti_odometry(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Return a sequence with its published poses.

    World: x to the right, y ahead and z up of camera 0 in the first image.

    Raises:
        CaptureError: a file is missing or broken, or the counts differ.
    """
    sequence = _sequence_folder(path, options)
    available = [name for name in CAMERAS if (sequence / name).is_dir()]
    default = [name for name in available if name in COLOR] or available
    names = choose_cameras(available, options.cameras, default, sequence)
    calibration_path = sequence / "calib.txt"
    calibration = _read_calibration(calibration_path)
    poses_path = _poses_path(sequence)
    poses = [
        CAMERA_TO_WORLD @ rigid(row[:, :3], row[:, 3])
        for row in read_table(poses_path, "pose file", 12).reshape(-1, 3, 4)
    ]
    times, notes = _times(sequence, len(poses))
    frames = []
    for name in names:
        images = _images(sequence / name, len(poses), poses_path)
        key = f"P{name[-1]}"
        projection = calibration_matrix(calibration, key, (3, 4), calibration_path)
        lens, center = rectified_lens(projection, images[0], f"{calibration_path}: {key}")
        frames += [
            Frame(
                name=f"{name}/{image.name}",
                image=f"{name}/{image.name}",
                intrinsics=lens,
                camera_to_world=log_pose(pose @ rigid(np.eye(3), center), f"{poses_path}: line {i + 1}"),
                segment=sequence.resolve().name,
                camera=name,
                timestamp=times[i],
                grayscale=name in GRAY,
            )
            for i, (image, pose) in enumerate(zip(images, poses, strict=True))
        ]
    sweeps, sweep_notes = _sweeps(sequence, calibration, calibration_path, poses, times)
    with error_context(str(sequence)):
        capture = Capture(
            image_dir=sequence.resolve(),
            frames=tuple(sorted(frames, key=lambda frame: (Path(frame.image).stem, frame.camera))),
            lidar_sweeps=tuple(sweeps),
            raw_poses=True,
            notes=(RAW_POSES, *notes, *sweep_notes),
            is_metric=True,
            source=f"KITTI odometry {sequence.resolve().name}",
        )
    check_files(capture)
    return capture


def _is_kitti_odometry(path: Path) -> bool:
    return _is_sequence(path) or bool(_sequences(path))


def _is_sequence(path: Path) -> bool:
    return (path / "calib.txt").is_file() and any((path / name).is_dir() for name in CAMERAS)


def _sequences(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.glob("sequences/*") if _is_sequence(entry))


def _sequence_folder(path: Path, options: ImportOptions) -> Path:
    if _is_sequence(path):
        return path
    return path / "sequences" / choose_scene(_sequences(path), options.scene, path, "sequence")


def _read_calibration(path: Path) -> dict[str, str]:
    """Return the matrices by name; without names, the lines are P0, P1 and so on."""
    lines = read_lines(path, "calibration file")
    if any(":" in line for line in lines):
        return read_calibration(path)
    return {f"P{number}": line for number, line in enumerate(lines)}


def _poses_path(sequence: Path) -> Path:
    """Return the pose file: in the folder of the sequence, or among those of all sequences."""
    name = sequence.resolve().name
    candidates = [sequence / "poses.txt", sequence.resolve().parents[1] / "poses" / f"{name}.txt"]
    for path in candidates:
        if path.is_file():
            return path
    raise CaptureError(f"{candidates[0]}: does not exist, nor does {candidates[1]}; KITTI has poses for 00 to 10 only")


def _times(sequence: Path, count: int) -> tuple[list[float], list[str]]:
    path = sequence / "times.txt"
    if not path.is_file():
        return [round(SECONDS * i, 6) for i in range(count)], [f"there is no times.txt; images are {SECONDS} s apart"]
    times = read_table(path, "time file", 1)[:, 0].tolist()
    if len(times) != count:
        raise CaptureError(f"{path}: has {len(times)} lines, but there are {count} poses; restore the sequence")
    return times, []


def _images(folder: Path, count: int, poses_path: Path) -> list[Path]:
    files = numbered_files(folder, (".png", ".jpg"))
    suffix = next(iter(files.values())).suffix if files else ".png"
    check_complete(files, count, folder / f"{0:06d}{suffix}", "image", f"{poses_path.name} has {count} poses")
    return [files[i] for i in range(count)]


def _sweeps(
    sequence: Path,
    calibration: dict[str, str],
    calibration_path: Path,
    poses: list[Float64[np.ndarray, "4 4"]],
    times: list[float],
) -> tuple[list[LidarSweep], list[str]]:
    if not (sequence / "velodyne").is_dir():
        return [], []
    if "Tr" not in calibration:
        return [], ["calib.txt has no pose of the LiDAR (Tr); its sweeps are not used"]
    files = numbered_files(sequence / "velodyne", (".bin",))
    if files and max(files) >= len(poses):
        raise CaptureError(f"{files[max(files)]}: has no pose; there are {len(poses)} of them")
    matrix = calibration_matrix(calibration, "Tr", (3, 4), calibration_path)
    lidar_to_camera = rigid(matrix[:, :3], matrix[:, 3])
    missing = len(poses) - len(files)
    sweeps = [
        LidarSweep(
            path=f"velodyne/{files[i].name}",
            timestamp=times[i],
            sensor_to_world=log_pose(poses[i] @ lidar_to_camera, f"{calibration_path}: Tr"),
        )
        for i in sorted(files)
    ]
    return sweeps, [f"{missing} of {len(poses)} LiDAR sweeps do not exist"] if missing else []


KITTI_ODOMETRY = Importer(kind="a sequence of KITTI odometry", recognizes=_is_kitti_odometry, read=read_kitti_odometry)
