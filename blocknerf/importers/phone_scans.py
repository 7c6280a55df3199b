"""Importers of phone scans: Polycam's keyframes and Record3D's folder.

Both store ARKit poses: camera to world, camera axes x right, y up, z backward, and a world with y up in meters. The
world becomes z-up by turning its axes: (x, y, z) becomes (z, x, y).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from jaxtyping import Float64

from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Pose, parse_pose
from blocknerf.capture.image_files import FoundImages, find_images, fit_lenses
from blocknerf.errors import CaptureError, error_context
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.json_file import JsonFile, Number, PositiveCount

POLYCAM_FOLDERS = (("corrected_cameras", "corrected_images"), ("cameras", "images"))
"""Folders of poses and images in `keyframes`; Polycam optimizes the corrected ones."""
_OPENCV = np.diag([1.0, -1.0, -1.0])
"""From OpenCV's camera axes to ARKit's."""
_Z_UP = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class _Keyframe(msgspec.Struct, frozen=True, kw_only=True):
    """One image of Polycam; t_RC is the entry of the pose in row R and column C."""

    t_00: Number
    t_01: Number
    t_02: Number
    t_03: Number
    t_10: Number
    t_11: Number
    t_12: Number
    t_13: Number
    t_20: Number
    t_21: Number
    t_22: Number
    t_23: Number
    fx: Number
    fy: Number
    cx: Number
    cy: Number
    width: PositiveCount
    height: PositiveCount

    @property
    def matrix(self) -> Float64[np.ndarray, "3 4"]:
        return np.array([[getattr(self, f"t_{row}{column}") for column in range(4)] for row in range(3)])


class _Recording(msgspec.Struct, frozen=True, kw_only=True):
    w: PositiveCount
    h: PositiveCount
    K: Annotated[list[Number], msgspec.Meta(min_length=9, max_length=9)]
    """Camera matrix, column by column."""
    poses: list[tuple[Number, Number, Number, Number, Number, Number, Number]]
    """Quaternion x, y, z, w and position of each image."""
    perFrameIntrinsicCoeffs: list[tuple[Number, Number, Number, Number]] = []
    """fx, fy, cx, cy of each image."""
    frameTimestamps: list[Number] = []


_KEYFRAME = JsonFile(content=_Keyframe, what="Polycam camera", error=CaptureError)
_RECORDING = JsonFile(content=_Recording, what="Record3D metadata", error=CaptureError)


def arkit_pose(matrix: Float64[np.ndarray, "3 4"]) -> Pose:
    """Return a pose of ARKit with OpenCV's camera axes, in a world with z up.

    Raises:
        CaptureError: the pose is not rigid.
    """
    return parse_pose(np.column_stack([_Z_UP @ matrix[:, :3] @ _OPENCV, _Z_UP @ matrix[:, 3]]))


def _keyframes(path: Path) -> tuple[Path, Path] | None:
    """Return the folders of poses and images of a Polycam scan."""
    for root in (path / "keyframes", path):
        for cameras, images in POLYCAM_FOLDERS:
            if any((root / cameras).glob("*.json")):
                return root / cameras, root / images
    return None


def read_polycam(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read the keyframes of a Polycam scan (exported as raw data).

    Raises:
        CaptureError: a file is broken, or images are missing.
    """
    folders = _keyframes(path)
    assert folders is not None
    cameras, images = folders
    files = sorted(cameras.glob("*.json"), key=lambda file: (len(file.stem), file.stem))
    keyframes = [_KEYFRAME.read(file) for file in files]
    found = find_images(path, [f"{file.stem}.jpg" for file in files], [images], options.images)
    lenses = [
        Intrinsics(width=item.width, height=item.height, fx=item.fx, fy=item.fy, cx=item.cx, cy=item.cy)
        for item in keyframes
    ]
    note = "poses and images as Polycam corrected them" if cameras.name == POLYCAM_FOLDERS[0][0] else ""
    with error_context(str(cameras)):
        poses = [arkit_pose(item.matrix) for item in keyframes]
    return _capture("Polycam", poses, lenses, found, [note] if note else [])


def read_record3d(path: Path, options: ImportOptions, work: Path) -> Capture:
    """Read a Record3D folder (exported as EXR + RGB, or an unpacked .r3d file).

    Raises:
        CaptureError: the metadata are broken, or images are missing.
    """
    file = path / "metadata.json"
    recording = _RECORDING.read(file)
    if not recording.poses:
        raise CaptureError(f"{file}: poses is empty; export the recording again")
    found = find_images(file, [f"{i}.jpg" for i in range(len(recording.poses))], [path / "rgb"], options.images)
    k = recording.K
    lenses = [(k[0], k[4], k[6], k[7])] * len(recording.poses)
    if len(recording.perFrameIntrinsicCoeffs) == len(lenses):
        lenses = list(recording.perFrameIntrinsicCoeffs)
    with error_context(str(file)):
        poses = [_quaternion_pose(pose) for pose in recording.poses]
        intrinsics = [
            Intrinsics(width=recording.w, height=recording.h, fx=fx, fy=fy, cx=cx, cy=cy) for fx, fy, cx, cy in lenses
        ]
    return _capture("Record3D", poses, intrinsics, found, [], recording.frameTimestamps)


def _quaternion_pose(numbers: Sequence[float]) -> Pose:
    from scipy.spatial.transform import Rotation

    if not 1e-6 < float(np.linalg.norm(numbers[:4])) < 1e6:
        raise CaptureError("the quaternion of a pose is zero or not finite; export the recording again")
    rotation = Rotation.from_quat(numbers[:4]).as_matrix()
    return arkit_pose(np.column_stack([rotation, numbers[4:]]))


def _capture(
    app: str,
    poses: Sequence[Pose],
    lenses: Sequence[Intrinsics],
    found: FoundImages,
    notes: Sequence[str],
    timestamps: Sequence[float] = (),
) -> Capture:
    fitted, size_notes = fit_lenses(lenses, [found.folder / image for image in found.paths])
    times: Sequence[float | None] = timestamps if len(timestamps) == len(poses) else [None] * len(poses)
    frames = tuple(
        Frame(
            name=image, image=image, intrinsics=lens, camera_to_world=pose, segment="0", camera="0", timestamp=time,
        )
        for image, lens, pose, time in zip(found.paths, fitted, poses, times, strict=True)
    )  # fmt: skip
    capture = Capture(
        image_dir=found.folder,
        frames=frames,
        is_metric=True,
        source=f"{app} scan",
        notes=(*notes, *found.notes, *size_notes),
    )
    check_files(capture)
    return capture


def _is_record3d(path: Path) -> bool:
    return (path / "metadata.json").is_file() and (path / "rgb").is_dir()


POLYCAM = Importer(
    kind="a Polycam scan", recognizes=lambda path: path.is_dir() and _keyframes(path) is not None, read=read_polycam
)
RECORD3D = Importer(kind="a Record3D recording", recognizes=_is_record3d, read=read_record3d)
