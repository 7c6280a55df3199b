"""Read and write trajectories: `trajectory.json` and nerfstudio camera paths."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.errors import RunError
from blocknerf.files import check_format_version, format_json, open_regular, read_json, write_atomic
from blocknerf.trajectory.trajectory import MAX_FRAMES, MAX_SIDE, Trajectory
from blocknerf.values import MAX_COORDINATE, MAX_VALUE, finite, format_value, one_case, positive, whole

TRAJECTORY_FORMAT = "blocknerf.trajectory/1"

MAX_FILE_BYTES = 128 << 20
"""Maximum size of a trajectory file; one of `MAX_FRAMES` frames takes about 50 million bytes."""

_HINT = "correct it, or write the file again"


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


def read_trajectory(path: Path) -> Trajectory:
    """Read a trajectory from `trajectory.json` or a nerfstudio camera path; the content decides which one it is.

    Raises:
        RunError: The file is missing, too large, corrupt, or has another format or a newer version.
    """
    _check_size(path)
    document = read_json(path, "trajectory")
    try:
        if "camera_path" in document:
            return _from_camera_path(document)
        return _from_document(document)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('trajectory: ')}") from None


def _check_size(path: Path) -> None:
    with suppress(FileNotFoundError), open_regular(path, "trajectory file", RunError) as (_, size):
        if size > MAX_FILE_BYTES:
            limit = f"{MAX_FILE_BYTES >> 20} MiB"
            raise RunError(f"{path}: the trajectory file is larger than {limit}; use at most {MAX_FRAMES} frames")


def write_camera_path(trajectory: Trajectory, path: Path) -> None:
    """Write a nerfstudio camera path (OpenGL axes, vertical field of view in degrees), in the capture's world frame."""
    height, aspect = trajectory.height, trajectory.width / trajectory.height
    poses = _flip_axes(_to_4x4(trajectory.camera_to_world)).reshape(-1, 16).tolist()
    views = [
        {"camera_to_world": pose, "fov": math.degrees(2 * math.atan(height / (2 * focal))), "aspect": aspect}
        for pose, focal in zip(poses, trajectory.focals.tolist(), strict=True)
    ]
    size = {"camera_type": "perspective", "render_height": height, "render_width": trajectory.width}
    timing = {"fps": float(trajectory.fps), "seconds": trajectory.seconds, "is_cycle": False}
    write_atomic(path, format_json({**size, **timing, "camera_path": views}))


def _from_document(document: dict[str, Any]) -> Trajectory:
    check_format_version(document.get("format"), TRAJECTORY_FORMAT, "trajectory", f"nor is it a camera path; {_HINT}")
    known = {"format", "fps", "width", "height", "frames"}
    for key in sorted(document.keys() ^ known):
        problem = "is missing" if key in known else "is unknown"
        raise RunError(f"trajectory: {one_case(key)}: {problem}; {_HINT}")
    frames = _list(document["frames"], "frames")
    views = [_view(frame, i) for i, frame in enumerate(frames)]
    return Trajectory(
        camera_to_world=torch.tensor([pose for pose, _ in views], dtype=torch.float32).reshape(-1, 3, 4),
        focals=torch.tensor([focal for _, focal in views], dtype=torch.float32),
        width=_integer(document["width"], "width"),
        height=_integer(document["height"], "height"),
        fps=_number(document["fps"], "fps"),
    )


def _view(frame: object, index: int) -> tuple[list[list[float]], float]:
    key = f"frames[{index}]"
    if not isinstance(frame, dict) or frame.keys() != {"camera_to_world", "focal"}:
        raise RunError(f"trajectory: {key}: is not an object of camera_to_world and focal; {_HINT}")
    rows = frame["camera_to_world"]
    if not isinstance(rows, list) or len(rows) != 3 or any(not isinstance(r, list) or len(r) != 4 for r in rows):
        raise RunError(f"trajectory: {key}.camera_to_world: is not 3 rows of 4 numbers; {_HINT}")
    pose = [[_number(value, f"{key}.camera_to_world", MAX_COORDINATE) for value in row] for row in rows]
    return pose, _number(frame["focal"], f"{key}.focal")


def _from_camera_path(document: dict[str, Any]) -> Trajectory:
    """Parse a nerfstudio camera path in the capture's world frame (nerfstudio's viewer recenters and rescales)."""
    kind = document.get("camera_type", "perspective")
    if kind != "perspective":
        raise RunError(
            f"trajectory: camera_type: {format_value(kind)} is not supported; export the path with a perspective camera"
        )
    width, height = (_integer(document.get(key), key) for key in ("render_width", "render_height"))
    views = _list(document["camera_path"], "camera_path")
    poses = [_matrix(view, f"camera_path[{i}]") for i, view in enumerate(views)]
    angles = [_number(view.get("fov"), f"camera_path[{i}].fov") for i, view in enumerate(views)]
    for i, angle in enumerate(angles):
        if positive(angle) is None or angle >= 180.0:
            raise RunError(f"trajectory: camera_path[{i}].fov: {angle} is not between 0 and 180 degrees; {_HINT}")
    focals = [height / (2 * math.tan(math.radians(angle) / 2)) for angle in angles]
    return Trajectory(
        camera_to_world=_flip_axes(torch.tensor(poses, dtype=torch.float64).reshape(-1, 4, 4))[:, :3].float(),
        focals=torch.tensor(focals, dtype=torch.float32),
        width=width,
        height=height,
        fps=_rate(document, len(views)),
    )


def _rate(document: dict[str, Any], count: int) -> float:
    """Return the frame rate: `fps` if present, else computed from `seconds`, else 24."""
    if document.get("fps") is not None:
        return _number(document["fps"], "fps")
    if document.get("seconds") is None:
        return 24.0
    seconds = _number(document["seconds"], "seconds")
    if positive(seconds) is None:
        raise RunError(f"trajectory: seconds: {seconds} is not a positive number; {_HINT}")
    return count / seconds


def _matrix(view: object, key: str) -> list[float]:
    if not isinstance(view, dict):
        raise RunError(f"trajectory: {key}: is not an object; {_HINT}")
    values = view.get("camera_to_world")
    if not isinstance(values, list) or len(values) != 16:
        raise RunError(f"trajectory: {key}.camera_to_world: is not 16 numbers, row by row; {_HINT}")
    return [_number(value, f"{key}.camera_to_world", MAX_COORDINATE) for value in values]


def _to_4x4(poses: Float[Tensor, "frames 3 4"]) -> Float[Tensor, "frames 4 4"]:
    last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(len(poses), 1, 4)
    return torch.cat([poses.double(), last_row], 1)


def _flip_axes(poses: Float[Tensor, "frames 4 4"]) -> Float[Tensor, "frames 4 4"]:
    """Convert poses from OpenGL camera axes (y up, looking along -z) to OpenCV axes, or back."""
    return poses * poses.new_tensor([1.0, -1.0, -1.0, 1.0])


def _list(value: object, key: str) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_FRAMES:
        raise RunError(f"trajectory: {key}: is not a list of 1 to {MAX_FRAMES} views; {_HINT}")
    return value


def _integer(value: object, key: str) -> int:
    number = whole(value, 1, MAX_SIDE)
    if number is None:
        raise RunError(f"trajectory: {key}: {format_value(value)} is not a whole number from 1 to {MAX_SIDE}; {_HINT}")
    return number


def _number(value: object, key: str, limit: float = MAX_VALUE) -> float:
    number = finite(value, limit)
    if number is None:
        raise RunError(f"trajectory: {key}: {format_value(value)} is not a finite number below {limit:.2g}; {_HINT}")
    return number
