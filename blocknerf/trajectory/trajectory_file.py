"""Read and write trajectories: `trajectory.json` and nerfstudio camera paths."""

import math
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.errors import RunError
from blocknerf.files import format_json, write_atomic
from blocknerf.json_file import Coordinate, JsonFile, Number, Positive, Record
from blocknerf.similarity import IDENTITY, Rows, invert, to_rows
from blocknerf.trajectory.trajectory import MAX_FRAMES, MAX_SIDE, Trajectory
from blocknerf.values import format_value

TRAJECTORY_FORMAT = "blocknerf.trajectory/1"

MAX_FILE_BYTES = 128 << 20
"""Maximum size of a trajectory file; one of `MAX_FRAMES` frames takes about 50 million bytes."""

_LIST_LENGTH = msgspec.Meta(min_length=1, max_length=MAX_FRAMES)
_Side = Annotated[float, msgspec.Meta(ge=1, le=MAX_SIDE, multiple_of=1)]
_Row = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
RIGID_TOLERANCE = 1e-3
"""Maximum deviation of R R^T from the identity; files round to a few digits."""


class _FrameRecord(Record, frozen=True, kw_only=True):
    camera_to_world: tuple[_Row, _Row, _Row]
    focal: Number


class _TrajectoryRecord(Record, frozen=True, kw_only=True, tag_field="format", tag=TRAJECTORY_FORMAT):
    fps: Number
    width: _Side
    height: _Side
    frames: Annotated[list[_FrameRecord], _LIST_LENGTH]


class _View(msgspec.Struct, frozen=True, kw_only=True):
    camera_to_world: list[Coordinate | list[Coordinate]]
    """16 numbers, row by row, or four rows of four."""
    fov: Annotated[float, msgspec.Meta(gt=0, lt=180)]
    """Vertical field of view in degrees."""


class _CameraPath(msgspec.Struct, frozen=True, kw_only=True):
    camera_path: Annotated[list[_View], _LIST_LENGTH]
    camera_type: str = "perspective"
    render_width: _Side
    render_height: _Side
    fps: Number | None = None
    seconds: Positive | None = None


class _Dataparser(msgspec.Struct, frozen=True, kw_only=True):
    transform: tuple[_Row, _Row, _Row]
    scale: Positive


class _Either(msgspec.Struct, frozen=True):
    """The key that distinguishes the formats."""

    camera_path: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_HINT = "write the file again"
_EITHER = JsonFile(content=_Either, what="trajectory")
_CAMERA_PATH = JsonFile(content=_CameraPath, what="trajectory", remedy=_HINT)
_DATAPARSER = JsonFile(content=_Dataparser, what="dataparser_transforms", remedy="copy it from nerfstudio's output")
_TRAJECTORY = JsonFile(content=_TrajectoryRecord, what="trajectory", remedy=_HINT)


def write_trajectory(trajectory: Trajectory, path: Path) -> None:
    """Write `trajectory.json` atomically; the same trajectory always results in the same bytes."""
    write_atomic(path, trajectory_to_json(trajectory))


def trajectory_to_json(trajectory: Trajectory) -> str:
    """Return the text of `trajectory.json` for a trajectory."""
    poses, focals = trajectory.camera_to_world.tolist(), trajectory.focals.tolist()
    return format_json(
        {
            "format": TRAJECTORY_FORMAT,
            "fps": float(trajectory.fps),
            "width": trajectory.width,
            "height": trajectory.height,
            "frames": [{"camera_to_world": pose, "focal": focal} for pose, focal in zip(poses, focals, strict=True)],
        }
    )


def read_trajectory(path: Path, source_to_world: Rows = IDENTITY) -> Trajectory:
    """Read a trajectory from `trajectory.json` or a nerfstudio camera path; the content decides which one it is.

    Args:
        path: The file.
        source_to_world: Similarity from the coordinates of a camera path to the run's world; a `trajectory.json` is in
            the run's world.

    Raises:
        RunError: The file is missing, too large, corrupt, or has another format or a newer version.
    """
    is_camera_path = _EITHER.read(path, MAX_FILE_BYTES).camera_path is not msgspec.UNSET
    record = (_CAMERA_PATH if is_camera_path else _TRAJECTORY).read(path)
    try:
        if isinstance(record, _CameraPath):
            return _from_camera_path(record, source_to_world)
        return _from_record(record)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('trajectory: ')}") from None


def write_camera_path(trajectory: Trajectory, path: Path, source_to_world: Rows = IDENTITY) -> None:
    """Write a nerfstudio camera path (OpenGL axes, vertical field of view in degrees), in the source's coordinates."""
    height, aspect = trajectory.height, trajectory.width / trajectory.height
    in_source = _transform(_to_4x4(trajectory.camera_to_world), _matrix(invert(source_to_world)))
    poses = _flip_axes(in_source).reshape(-1, 16).tolist()
    views = [
        {"camera_to_world": pose, "fov": math.degrees(2 * math.atan(height / (2 * focal))), "aspect": aspect}
        for pose, focal in zip(poses, trajectory.focals.tolist(), strict=True)
    ]
    size = {"camera_type": "perspective", "render_height": height, "render_width": trajectory.width}
    timing = {"fps": float(trajectory.fps), "seconds": trajectory.seconds, "is_cycle": False}
    write_atomic(path, format_json({**size, **timing, "camera_path": views}))


def read_dataparser_transforms(path: Path) -> Rows:
    """Return the similarity from nerfstudio's world to that of its input, from its `dataparser_transforms.json`.

    nerfstudio recenters, rotates and scales the poses of a data set for training, and its viewer writes camera paths in
    that world.

    Raises:
        RunError: The file is missing or broken.
    """
    record = _DATAPARSER.read(path)
    try:
        return invert(to_rows(record.scale * np.array(record.transform)))
    except np.linalg.LinAlgError:
        raise RunError(f"{path}: transform: cannot be inverted; copy it from nerfstudio's output") from None


def _from_record(record: _TrajectoryRecord) -> Trajectory:
    return Trajectory(
        camera_to_world=torch.tensor([frame.camera_to_world for frame in record.frames], dtype=torch.float32),
        focals=torch.tensor([frame.focal for frame in record.frames], dtype=torch.float32),
        width=int(record.width),
        height=int(record.height),
        fps=record.fps,
    )


def _from_camera_path(path: _CameraPath, source_to_world: Rows) -> Trajectory:
    """Return the trajectory of a camera path."""
    if path.camera_type != "perspective":
        kind = format_value(path.camera_type)
        raise RunError(f"camera_type: {kind} is not supported; export the path with a perspective camera")
    poses = torch.stack([_pose(view.camera_to_world, f"camera_path[{i}]") for i, view in enumerate(path.camera_path)])
    focals = [path.render_height / (2 * math.tan(math.radians(view.fov) / 2)) for view in path.camera_path]
    return Trajectory(
        camera_to_world=_transform(_flip_axes(poses), _matrix(source_to_world))[:, :3].float(),
        focals=torch.tensor(focals, dtype=torch.float32),
        width=int(path.render_width),
        height=int(path.render_height),
        fps=_rate(path),
    )


def _pose(numbers: list[Any], where: str) -> Float[Tensor, "4 4"]:
    """Return the matrix of 16 numbers or four rows.

    Raises:
        RunError: It has another shape, is written column by column, or is not rigid.
    """
    flat = [number for row in numbers for number in (row if isinstance(row, list) else [row])]
    rows = sum(isinstance(row, list) for row in numbers)
    if len(flat) != 16 or rows not in (0, 4) or (rows and any(len(row) != 4 for row in numbers)):
        raise RunError(f"{where}.camera_to_world: is not 16 numbers, row by row; {_HINT}")
    pose = torch.tensor(flat, dtype=torch.float64).reshape(4, 4)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if (pose[3] - last).abs().max() > 1e-6:
        by_columns = (pose[:, 3] - last).abs().max() <= 1e-6
        problem = "is written column by column; transpose it" if by_columns else "has a last row that is not 0 0 0 1"
        raise RunError(f"{where}.camera_to_world: {problem}, or {_HINT}")
    rotation = pose[:3, :3]
    if (rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max() > RIGID_TOLERANCE:
        raise RunError(f"{where}.camera_to_world: has scale or shear; divide it out, or {_HINT}")
    return pose


def _matrix(similarity: Rows) -> Float[Tensor, "4 4"]:
    return torch.tensor([*similarity, (0.0, 0.0, 0.0, 1.0)], dtype=torch.float64)


def _transform(poses: Float[Tensor, "frames 4 4"], similarity: Float[Tensor, "4 4"]) -> Float[Tensor, "frames 4 4"]:
    """Return poses in other coordinates; their rotations stay free of scale."""
    moved = similarity @ poses
    moved[:, :3, :3] /= torch.linalg.det(similarity[:3, :3]) ** (1 / 3)
    return moved


def _rate(path: _CameraPath) -> float:
    """Return the frame rate: `fps` if present, else computed from `seconds`, else 24."""
    if path.fps is not None:
        return path.fps
    return 24.0 if path.seconds is None else len(path.camera_path) / path.seconds


def _to_4x4(poses: Float[Tensor, "frames 3 4"]) -> Float[Tensor, "frames 4 4"]:
    last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(len(poses), 1, 4)
    return torch.cat([poses.double(), last_row], 1)


def _flip_axes(poses: Float[Tensor, "frames 4 4"]) -> Float[Tensor, "frames 4 4"]:
    """Convert poses from OpenGL camera axes (y up, looking along -z) to OpenCV axes, or back."""
    return poses * poses.new_tensor([1.0, -1.0, -1.0, 1.0])
