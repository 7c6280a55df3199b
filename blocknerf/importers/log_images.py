"""Images and poses of a driving log: numbered files in folders, rectified cameras, rigid transforms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from blocknerf.capture.frame import Intrinsics, Pose, check_relative, parse_pose
from blocknerf.errors import CaptureError, error_context
from blocknerf.images import image_size
from blocknerf.values import format_value, one_case

CENTER = 0.5
"""Added to principal points of calibrations in which integer coordinates are pixel centers (OpenCV, KITTI)."""

UNIT_TOLERANCE = 1e-3
"""Largest deviation of a quaternion's length from one."""
MAX_LISTED = 40
"""Names of scenes that a message lists."""
RAW_POSES = "poses are those of GPS and IMU, not aligned to the images; if the result is blurred, try --pose-refinement"
"""Note of a capture with raw poses."""


def numbered_files(folder: Path, suffixes: Sequence[str]) -> dict[int, Path]:
    """Return the files of a folder that are named by a number, by number; other files are ignored.

    Raises:
        CaptureError: the folder cannot be listed, or two files have the same number.
    """
    files: dict[int, Path] = {}
    try:
        paths = sorted(folder.iterdir())
    except OSError as fault:
        raise CaptureError(f"{folder}: this folder cannot be listed ({fault.strerror}); restore it") from None
    for path in paths:
        if path.suffix.lower() in suffixes and path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 19:
            if int(path.stem) in files:
                raise CaptureError(f"{path}: has the same number as {files[int(path.stem)].name}; remove one of them")
            files[int(path.stem)] = path
    return files


def check_complete(files: dict[int, Path], count: int, first: Path, what: str, counted: str) -> None:
    """Raise unless the files are numbered 0 to `count` - 1.

    Args:
        files: The files by number.
        count: Number of files expected.
        first: Path of the file with number 0; its stem shows the number of digits.
        what: The files in a message, such as "image".
        counted: Where the count is from, such as "timestamps.txt has 30 lines".

    Raises:
        CaptureError: names the first missing file and the number of missing ones, or says that there are too many.
    """
    missing = [number for number in range(count) if number not in files]
    if missing:
        path = first.with_name(f"{missing[0]:0{len(first.stem)}d}{first.suffix}")
        raise CaptureError(f"{path}: this {what} does not exist ({len(missing)} missing, since {counted}); restore it")
    if len(files) > count:
        raise CaptureError(f"{first.parent}: holds {len(files)} files, but {counted}; restore what is missing there")


def check_exist(folder: Path, names: Sequence[str], what: str) -> None:
    """Raise if files do not exist; `what` is their name in a message.

    Raises:
        CaptureError: names the first one and their number, or says that a name is not a path inside the folder.
    """
    for name in names:
        check_relative(name)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        count = f"{len(missing)} of {len(names)} are missing"
        raise CaptureError(f"{folder / missing[0]}: this {what} does not exist ({count}); restore or download it")


def rectified_lens(
    projection: Float64[np.ndarray, "3 4"], image: Path, where: str
) -> tuple[Intrinsics, Float64[np.ndarray, "3"]]:
    """Return lens and center of a rectified camera with projection matrix P = K [I | -center].

    Raises:
        CaptureError: the matrix is not of that form, or the image cannot be read.
    """
    matrix = projection[:, :3]
    if abs(matrix[2] - (0, 0, 1)).max() > 1e-6 or abs(matrix[[0, 1], [1, 0]]).max() > 1e-6 or matrix[0, 0] <= 0:
        raise CaptureError(f"{where}: is not the projection matrix of a rectified camera; restore it")
    width, height = image_size(image)
    with error_context(where):
        lens = Intrinsics(
            width=width,
            height=height,
            fx=float(matrix[0, 0]),
            fy=float(matrix[1, 1]),
            cx=float(matrix[0, 2]) + CENTER,
            cy=float(matrix[1, 2]) + CENTER,
        )
    return lens, -np.linalg.solve(matrix, projection[:, 3])


def rigid(
    rotation: Float64[np.ndarray, "3 3"], translation: Sequence[float] | Float64[np.ndarray, "3"] = (0.0, 0.0, 0.0)
) -> Float64[np.ndarray, "4 4"]:
    """Return the 4x4 matrix of a rotation and a translation."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def inverse(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Return the inverse of a rigid transform with a rotation that is rounded to a few digits."""
    return np.linalg.inv(matrix)


def quaternion_rotation(quaternion: Sequence[float], where: str) -> Float64[np.ndarray, "3 3"]:
    """Return the rotation of a quaternion w, x, y, z.

    Raises:
        CaptureError: the length of the quaternion is not one.
    """
    values = np.array(quaternion, np.float64)
    if values.shape != (4,) or not abs(np.linalg.norm(values) - 1.0) < UNIT_TOLERANCE:
        raise CaptureError(f"{where}: the rotation {format_value(list(quaternion))} is no unit quaternion; correct it")
    return Rotation.from_quat(values[[1, 2, 3, 0]]).as_matrix()


def log_pose(matrix: Float64[np.ndarray, "4 4"], where: str) -> Pose:
    """Return a pose of a log with an exactly orthonormal rotation.

    Raises:
        CaptureError: the matrix is not rigid.
    """
    with error_context(where):
        return parse_pose(matrix[:3].copy())


def choose_cameras(available: Sequence[str], wanted: Sequence[str], default: Sequence[str], where: Path) -> list[str]:
    """Return the cameras that the user wants, or else the default, in the order of the log.

    A wanted camera may be given by its number: 2 is image_02.

    Raises:
        CaptureError: a camera does not exist; the message lists those that do.
    """
    chosen = set()
    for name in wanted:
        matches = [camera for camera in available if name in (camera, camera.rpartition("_")[2].lstrip("0") or "0")]
        if not matches:
            raise CaptureError(f"{where}: has no camera {one_case(name)}; --cameras takes {', '.join(available)}")
        chosen.update(matches)
    return [name for name in available if name in (chosen or default)]


def choose_scene(available: Sequence[str], wanted: str | None, where: Path, what: str) -> str:
    """Return the scene that the user wants, or the only one.

    Raises:
        CaptureError: it does not exist, or there are several and none is named; the message lists them.
    """
    names = ", ".join(available[:MAX_LISTED]) + (
        f" and {len(available) - MAX_LISTED} more" * (len(available) > MAX_LISTED)
    )
    if not available:
        raise CaptureError(f"{where}: holds no {what}; give the folder that holds them")
    if wanted is None and len(available) > 1:
        raise CaptureError(f"{where}: holds {len(available)} {what}s; choose one with --scene: {names}")
    if wanted is not None and wanted not in available:
        raise CaptureError(f"{where}: has no {what} {one_case(wanted)}; --scene takes {names}")
    return available[0] if wanted is None else wanted
