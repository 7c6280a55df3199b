"""Importer of nerfstudio's and instant-ngp's `transforms.json`.

Keys that do not describe the geometry of an image (`aabb_scale`, `orientation_override`, ...) are ignored, and
`applied_transform`, `applied_scale`, `depth_file_path` and `colmap_im_id` are kept for exports: nerfstudio has already
applied them to poses and points.
"""

import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, cast, overload

import msgspec

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture, check_files
from blocknerf.capture.frame import Frame, Intrinsics, Pose, Split, check_relative, parse_pose, pose_from_flat
from blocknerf.capture.image_files import find_images
from blocknerf.errors import CaptureError, error_context
from blocknerf.images import image_size
from blocknerf.json_file import JsonFile, Number, Vec3, Whole
from blocknerf.values import one_case, positive, whole

_PERSPECTIVE = ("PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
MAX_FOCAL_RATIO = 1.5
"""Largest ratio of a focal length to that of the angle of view in the same file; distortion accounts for less."""
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4")
_PANORAMAS = ("EQUIRECTANGULAR", "LATLONG", "SPHERICAL")
_METER = re.compile(r"\s*(met(re|er)s?|m)\b", re.IGNORECASE)


class _Lens(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that a file has once or per frame; null is the same as absent."""

    camera_model: str | None = None
    w: Whole | None = None
    h: Whole | None = None
    fl_x: Number | None = None
    fl_y: Number | None = None
    camera_angle_x: Number | None = None
    camera_angle_y: Number | None = None
    cx: Number | None = None
    cy: Number | None = None
    k1: Number | None = None
    k2: Number | None = None
    p1: Number | None = None
    p2: Number | None = None
    k3: Number | None = None
    k4: Number | None = None
    ftheta_p0: Any = None
    equirectangular: Any = None
    latlong: Any = None


class _FrameEntry(_Lens, frozen=True, kw_only=True):
    file_path: str
    pose: list[list[float]]
    camera_id: str | int | None = None
    sequence_id: str | int | None = None
    mask_path: str | None = None
    sky_mask_path: str | None = None
    timestamp: Number | None = None
    exposure: Number | None = None
    exposure_time: Number | None = None
    iso: Number | None = None
    gps: Vec3 | None = None
    grayscale: bool | None = None
    depth_file_path: Any = None
    colmap_im_id: Any = None


class _Transforms(_Lens, frozen=True, kw_only=True):
    frames: list[_FrameEntry]
    is_fisheye: bool | None = None
    gps_origin_lat_lon_alt: Vec3 | None = None
    ply_file_path: str | None = None
    lidar_ply: str | None = None
    unit: str | None = None
    source: str | None = None
    applied_transform: Any = None
    applied_scale: Any = None
    train_filenames: list[str] | None = None
    val_filenames: list[str] | None = None
    test_filenames: list[str] | None = None


def read_transforms(path: Path | str, *, poses: str = "transform_matrix", images: Path | None = None) -> Capture:
    """Read a capture from `transforms.json`.

    Intrinsics are global or per frame. OpenGL camera axes are converted to OpenCV's (only here); the world is kept
    (z up by nerfstudio's convention). Defaults of absent keys: the camera is "0", the segment is the camera, the
    name is the path, width and height are those of the image, and the principal point is the image center. Lengths
    are in meters if `unit` says so or, without `unit`, if `gps_origin_lat_lon_alt` is present.

    Args:
        path: The file or its folder.
        poses: Key of a frame's pose, for files with several (`transform_matrix_oxts`).
        images: Folder of the images, if they are not below the folder of the file.

    Raises:
        CaptureError: the file cannot be used; the message names file, frame or key, and fix.
    """
    path = Path(path)
    path = path / "transforms.json" if path.is_dir() else path
    top = _file(poses).read(path)
    if not top.frames:
        raise CaptureError(f"{path}: frames is empty; give at least one posed image")
    folder = path.parent.resolve()
    # In a folder from the user, images are found by the ends of their paths.
    named = [
        entry.file_path if images is not None else _image_name(entry, folder, f"{path}: frames[{i}].file_path")
        for i, entry in enumerate(top.frames)
    ]
    found = find_images(path, named, [folder], images)
    splits = _splits(top, named, folder)
    frames = [
        _frame(entry, top, found.folder / image, image, f"{path}: frames[{i}]", poses, split)
        for i, (entry, image, split) in enumerate(zip(top.frames, found.paths, splits, strict=True))
    ]
    with error_context(str(path)):
        capture = Capture(
            image_dir=found.folder,
            mask_dir=None if found.folder == folder else folder,
            points_dir=None if found.folder == folder else folder,
            frames=tuple(frames),
            sparse_points=_relative(top.ply_file_path, f"{path}: ply_file_path"),
            lidar_points=_relative(top.lidar_ply, f"{path}: lidar_ply"),
            is_metric=bool(_METER.match(top.unit)) if top.unit is not None else top.gps_origin_lat_lon_alt is not None,
            geo_origin=top.gps_origin_lat_lon_alt,
            source=top.source if top.source is not None else path.name,
            notes=found.notes,
            applied_transform=_kept_transform(top.applied_transform),
            applied_scale=positive(top.applied_scale),
        )
    check_files(capture)
    return capture


@cache
def _file(poses: str) -> JsonFile[_Transforms]:
    """Return the type of file with poses under this key."""
    pose = [("pose", list[list[float]])]
    entry = msgspec.defstruct("Entry", pose, bases=(_FrameEntry,), rename={"pose": poses}, frozen=True, kw_only=True)
    frames = [("frames", list[entry])]  # type: ignore[valid-type]
    content = msgspec.defstruct("Transforms", frames, bases=(_Transforms,), frozen=True, kw_only=True)
    return JsonFile(content=cast(type[_Transforms], content), what="transforms", error=CaptureError)


def _frame(
    entry: _FrameEntry, top: _Transforms, file: Path, image: str, where: str, pose_key: str, split: Split | None
) -> Frame:
    camera = "0" if entry.camera_id is None else str(entry.camera_id)
    pose = _opencv_pose(entry.pose, f"{where}.{pose_key}")
    lens = _intrinsics(entry, top, file, where)
    with error_context(where):
        return Frame(
            name=image,
            image=image,
            mask=_relative(entry.mask_path, f"{where}.mask_path"),
            sky_mask=_relative(entry.sky_mask_path, f"{where}.sky_mask_path"),
            intrinsics=lens,
            camera_to_world=pose,
            segment=camera if entry.sequence_id is None else str(entry.sequence_id),
            camera=camera,
            timestamp=entry.timestamp,
            exposure=_exposure(entry),
            gps=entry.gps,
            grayscale=bool(entry.grayscale),
            split=split,
            depth=_kept_path(entry.depth_file_path),
            colmap_id=whole(entry.colmap_im_id),
        )


@overload
def _relative(path: str, where: str) -> str: ...
@overload
def _relative(path: None, where: str) -> None: ...
def _relative(path: str | None, where: str) -> str | None:
    """Return a normalized path inside the capture's folder: "./images/a.jpg" becomes "images/a.jpg"."""
    if path is None:
        return None
    path = path.replace("\\", "/")
    with error_context(where):
        check_relative(path)
    return str(PurePosixPath(path))


def _image_name(entry: _FrameEntry, folder: Path, where: str) -> str:
    return _relative(_inside(entry.file_path, folder), where)


def _inside(path: str, folder: Path) -> str:
    """Return an absolute path inside the folder of the file relative to it; other paths unchanged."""
    return path.replace("\\", "/").removeprefix(f"{folder.as_posix()}/")


def _splits(top: _Transforms, named: Sequence[str], folder: Path) -> list[Split | None]:
    """Return the use of each image that the lists of nerfstudio fix; images in no list do not train.

    None if no list holds images out.
    """
    lists: dict[Split, list[str] | None] = {
        "test": top.test_filenames,
        "val": top.val_filenames,
        "train": top.train_filenames,
    }
    use: dict[str, Split] = {}
    for split, names in lists.items():
        for name in names or ():
            use.setdefault(str(PurePosixPath(_inside(name, folder))), split)
    unlisted: Split = "val" if top.train_filenames else "train"
    splits = [use.get(name, unlisted) for name in named]
    return [None] * len(named) if set(splits) == {"train"} else list(splits)


def _kept_transform(matrix: Any) -> Pose | None:
    """Return a transform that is only kept for exports, or None if it is not one."""
    try:
        return parse_pose(matrix) if isinstance(matrix, list) else None
    except (CaptureError, TypeError, ValueError):
        return None


def _kept_path(path: Any) -> str | None:
    """Return a path that is only kept for exports, or None if it is not one inside the capture's folder."""
    try:
        return _relative(path, "") if isinstance(path, str) else None
    except CaptureError:
        return None


def _opencv_pose(matrix: list[list[float]], where: str) -> Pose:
    """Return the pose with OpenCV axes; the file uses OpenGL's (y up, z backward)."""
    with error_context(where):
        rows = parse_pose(matrix)
    return pose_from_flat(
        [sign * number for row in rows for sign, number in zip((1.0, -1.0, -1.0, 1.0), row, strict=True)]
    )


def _exposure(entry: _FrameEntry) -> float | None:
    """Return the exposure (shutter time x gain), as given or from its parts."""
    if entry.exposure is not None or entry.exposure_time is None or entry.iso is None:
        return entry.exposure
    return entry.exposure_time * entry.iso


def _intrinsics(entry: _FrameEntry, top: _Transforms, image: Path, where: str) -> Intrinsics:
    """Return the intrinsics of the frame or of the file; size and principal point default to the image's."""
    width, height = _size(entry, top, image)
    fx, fy = _focal(entry, top, width, height, where)
    k1, k2, p1, p2, k3, k4 = (_number(entry, top, key, 0.0) for key in _COEFFICIENTS)
    coefficients = (k1, k2, p1, p2, k3, k4)
    with error_context(where):
        return Intrinsics(
            width=width,
            height=height,
            fx=fx,
            fy=fy,
            cx=_number(entry, top, "cx", width / 2),
            cy=_number(entry, top, "cy", height / 2),
            model=_model(entry, top, coefficients),
            distortion=coefficients,
        )


def _size(entry: _FrameEntry, top: _Transforms, image: Path) -> tuple[int, int]:
    for source in (entry, top):
        if source.w is not None and source.h is not None:
            return int(source.w), int(source.h)
    return image_size(image)


def _focal(entry: _FrameEntry, top: _Transforms, width: int, height: int, where: str) -> tuple[float, float]:
    """Return focal lengths in pixels, given or from angles of view; a single one is used for both axes."""
    for source in (entry, top):
        with error_context(where):
            fx = _focal_along(source.fl_x, source.camera_angle_x, width, "x")
            fy = _focal_along(source.fl_y, source.camera_angle_y, height, "y")
        if fx is not None:
            return fx, fx if fy is None else fy
        if fy is not None:
            return fy, fy
    raise CaptureError(f"{where}.fl_x is missing; give fl_x or camera_angle_x, per frame or for the whole file")


def _focal_along(focal: float | None, radians: float | None, size: int, axis: str) -> float | None:
    """Return the focal length, or that of the angle of view.

    Raises:
        CaptureError: the angle is impossible, or contradicts the focal length.
    """
    if radians is None:
        return focal
    if positive(radians) is None or radians >= math.pi:
        raise CaptureError(f"camera_angle_{axis} is {radians:g}; give an angle of view in radians, below pi")
    implied = size / 2 / math.tan(radians / 2)
    if focal is not None and not 1 / MAX_FOCAL_RATIO < focal / implied < MAX_FOCAL_RATIO:
        angle = math.degrees(2 * math.atan2(size, 2 * focal))
        raise CaptureError(
            f"fl_{axis} {focal:g} makes an angle of view of {angle:.0f} degrees, but camera_angle_{axis} says "
            f"{math.degrees(radians):.0f}; give the focal length in pixels, or remove one of the two"
        )
    return implied if focal is None else focal


def _number(entry: _FrameEntry, top: _Transforms, key: str, default: float) -> float:
    return next((value for value in (getattr(entry, key), getattr(top, key)) if value is not None), default)


def _model(entry: _FrameEntry, top: _Transforms, coefficients: tuple[float, ...]) -> CameraModel:
    """Return the camera model; as in nerfstudio, every perspective model uses the coefficients present."""
    default = "OPENCV_FISHEYE" if top.is_fisheye else "OPENCV"
    name = (entry.camera_model or top.camera_model or default).upper()
    if name in _PANORAMAS or any(source.equirectangular or source.latlong for source in (entry, top)):
        raise CaptureError("equirectangular images are not supported; cut perspective views from the panoramas")
    if name == "FTHETA" or any(source.ftheta_p0 is not None for source in (entry, top)):
        raise CaptureError(
            "camera model ftheta is not supported; undistort the images to a perspective or OpenCV fisheye"
        )
    if name not in _PERSPECTIVE + _FISHEYE:
        known = ", ".join(_PERSPECTIVE + _FISHEYE)
        raise CaptureError(f"camera_model is {one_case(name)}; undistort the images to one of {known}")
    fisheye = name in _FISHEYE
    unused = {key: value for key, value in zip(_COEFFICIENTS, coefficients, strict=True) if value}
    for key in ("p1", "p2") if fisheye else ("k4",):
        if key in unused:
            raise CaptureError(f"{key} is not part of camera model {name}; undistort the images")
    if fisheye:
        return CameraModel.FISHEYE
    return CameraModel.OPENCV if unused else CameraModel.PINHOLE
