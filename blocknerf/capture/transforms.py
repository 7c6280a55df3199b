"""Importer of nerfstudio's and instant-ngp's `transforms.json`.

Keys that do not describe the geometry of an image (`aabb_scale`, `applied_transform`, `applied_scale`,
`orientation_override`, ...) are ignored: nerfstudio has already applied them to poses and points.
"""

import math
import re
from pathlib import Path, PurePosixPath
from typing import Any

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Pose, check_relative, parse_pose, pose_from_flat
from blocknerf.capture.json_reader import JsonReader, error_context
from blocknerf.errors import CaptureError
from blocknerf.files import read_json
from blocknerf.images import image_size
from blocknerf.values import one_case, positive

_PERSPECTIVE = ("PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
"""Suffixes to try, in order, for an instant-ngp path without one."""
_METER = re.compile(r"\s*(met(re|er)s?|m)\b", re.IGNORECASE)


def read_transforms(path: Path | str, *, poses: str = "transform_matrix") -> Capture:
    """Read a capture from `transforms.json`.

    Intrinsics are global or per frame. OpenGL camera axes are converted to OpenCV's (only here); the world is kept
    (z up by nerfstudio's convention). Defaults of absent keys: the camera is "0", the segment is the camera, the
    name is the path, width and height are those of the image, and the principal point is the image center. Lengths
    are in meters if `unit` says so or, without `unit`, if `gps_origin_lat_lon_alt` is present.

    Args:
        path: The file or its folder.
        poses: Key of a frame's pose, for files with several (`transform_matrix_oxts`).

    Raises:
        CaptureError: the file cannot be used; the message names file, frame or key, and fix.
    """
    path = Path(path)
    path = path / "transforms.json" if path.is_dir() else path
    top = JsonReader(read_json(path, "transforms", CaptureError), str(path))
    entries = top.objects("frames")
    if not entries:
        raise CaptureError(f"{path}: frames is empty; give at least one posed image")
    image_dir = path.parent.resolve()
    frames = [_read_frame(entry, top, image_dir, poses) for entry in entries]
    geo_origin = top.vec3("gps_origin_lat_lon_alt") if top.optional("gps_origin_lat_lon_alt") else None
    with error_context(str(path)):
        capture = Capture(
            image_dir=image_dir,
            frames=tuple(frames),
            sparse_points=_relative(top, "ply_file_path") if top.optional("ply_file_path") else None,
            lidar_points=_relative(top, "lidar_ply") if top.optional("lidar_ply") else None,
            is_metric=bool(_METER.match(top.text("unit"))) if top.optional("unit") else geo_origin is not None,
            geo_origin=geo_origin,
            source=top.text("source") if top.optional("source") else path.name,
        )
    check_files(capture)
    return capture


def _read_frame(entry: JsonReader, top: JsonReader, image_dir: Path, poses: str) -> Frame:
    image = _with_suffix(_relative(entry, "file_path"), image_dir)
    camera = entry.str_or_int("camera_id") if entry.optional("camera_id") else "0"
    lens, pose = _read_lens(entry, top, image_dir / image), _opencv_pose(entry, poses)
    metadata: dict[str, Any] = {
        "mask": _relative(entry, "mask_path") if entry.optional("mask_path") else None,
        "sky_mask": _relative(entry, "sky_mask_path") if entry.optional("sky_mask_path") else None,
        "segment": entry.str_or_int("sequence_id") if entry.optional("sequence_id") else camera,
        "timestamp": entry.number("timestamp") if entry.optional("timestamp") else None,
        "exposure": _exposure(entry),
        "gps": entry.vec3("gps") if entry.optional("gps") else None,
        "grayscale": entry.bool_("grayscale") if entry.optional("grayscale") else False,
    }
    with error_context(entry.where):
        return Frame(name=image, image=image, camera=camera, intrinsics=lens, camera_to_world=pose, **metadata)


def _relative(entry: JsonReader, key: str) -> str:
    """Return a normalized path inside the capture's folder: "./images/a.jpg" becomes "images/a.jpg"."""
    text = entry.text(key).replace("\\", "/")
    with error_context(entry.location(key)):
        check_relative(text)
    return str(PurePosixPath(text))


def _with_suffix(path: str, folder: Path) -> str:
    """Return the path of an existing image: instant-ngp may leave out the suffix."""
    if (folder / path).is_file():
        return path
    return next((path + suffix for suffix in _SUFFIXES if (folder / (path + suffix)).is_file()), path)


def _opencv_pose(entry: JsonReader, key: str) -> Pose:
    """Return the pose with OpenCV axes; the file uses OpenGL's (y up, z backward)."""
    with error_context(entry.location(key)):
        rows = parse_pose(entry.items(key))
    return pose_from_flat(
        [sign * number for row in rows for sign, number in zip((1.0, -1.0, -1.0, 1.0), row, strict=True)]
    )


def _exposure(entry: JsonReader) -> float | None:
    """Return the exposure (shutter time x gain), as given or from its parts."""
    if entry.optional("exposure"):
        return entry.number("exposure")
    if entry.optional("exposure_time") and entry.optional("iso"):
        return entry.number("exposure_time") * entry.number("iso")
    return None


def _read_lens(entry: JsonReader, top: JsonReader, image: Path) -> Intrinsics:
    """Return the intrinsics of the frame or of the file; size and principal point default to the image's."""
    width, height = _size(entry, top, image)
    fx, fy = _focal(entry, top, width, height)
    cx, cy = _number(entry, top, "cx", width / 2), _number(entry, top, "cy", height / 2)
    k1, k2, p1, p2, k3, k4 = (_number(entry, top, key, 0.0) for key in _COEFFICIENTS)
    coefficients = (k1, k2, p1, p2, k3, k4)
    model = _model(entry if entry.optional("camera_model") else top, top, coefficients)
    with error_context(entry.where):
        return Intrinsics(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy, model=model, distortion=coefficients)


def _size(entry: JsonReader, top: JsonReader, image: Path) -> tuple[int, int]:
    for source in (entry, top):
        if source.optional("w") and source.optional("h"):
            return source.int_("w"), source.int_("h")
    return image_size(image)


def _focal(entry: JsonReader, top: JsonReader, width: int, height: int) -> tuple[float, float]:
    """Return focal lengths in pixels, given or from angles of view; a single one is used for both axes."""
    for source in (entry, top):
        fx = _focal_along(source, "fl_x", "camera_angle_x", width)
        fy = _focal_along(source, "fl_y", "camera_angle_y", height)
        if fx is not None or fy is not None:
            return (fx if fx is not None else fy), (fy if fy is not None else fx)  # type: ignore[return-value]
    raise CaptureError(
        f"{entry.location('fl_x')} is missing; give fl_x or camera_angle_x, per frame or for the whole file"
    )


def _focal_along(source: JsonReader, focal: str, angle: str, size: int) -> float | None:
    if source.optional(focal):
        return source.number(focal)
    if not source.optional(angle):
        return None
    radians = source.number(angle)
    if positive(radians) is None or radians >= math.pi:
        raise CaptureError(f"{source.location(angle)} is {radians:g}; give an angle of view in radians, below pi")
    return size / 2 / math.tan(radians / 2)


def _number(entry: JsonReader, top: JsonReader, key: str, default: float) -> float:
    for source in (entry, top):
        if source.optional(key):
            return source.number(key)
    return default


def _model(source: JsonReader, top: JsonReader, coefficients: tuple[float, ...]) -> CameraModel:
    """Return the camera model; as in nerfstudio, every perspective model uses the coefficients present."""
    default = "OPENCV_FISHEYE" if top.optional("is_fisheye") and top.bool_("is_fisheye") else "OPENCV"
    name = source.text("camera_model").upper() if source.optional("camera_model") else default
    if name not in _PERSPECTIVE + _FISHEYE:
        known = ", ".join(_PERSPECTIVE + _FISHEYE)
        raise CaptureError(
            f"{source.location('camera_model')} is {one_case(name)}; undistort the images to one of {known}"
        )
    fisheye = name in _FISHEYE
    unused = {key: value for key, value in zip(_COEFFICIENTS, coefficients, strict=True) if value}
    for key in ("p1", "p2") if fisheye else ("k4",):
        if key in unused:
            raise CaptureError(f"{source.location(key)} is not part of camera model {name}; undistort the images")
    if fisheye:
        return CameraModel.FISHEYE
    return CameraModel.OPENCV if unused else CameraModel.PINHOLE
