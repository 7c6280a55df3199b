"""Writer of nerfstudio's `transforms.json`, for other programs and for our importer."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, get_args

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics, Split
from blocknerf.errors import CaptureError
from blocknerf.files import format_json, write_atomic
from blocknerf.similarity import IDENTITY, chain

_MODELS = {
    CameraModel.PINHOLE: "PINHOLE",
    CameraModel.OPENCV: "OPENCV",
    CameraModel.FISHEYE: "OPENCV_FISHEYE",
}
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4")


def write_transforms(capture: Capture, path: Path) -> tuple[str, ...]:
    """Write a capture's `transforms.json` atomically, one line per frame.

    `read_transforms` returns the same capture, except that frames are named by their image paths, and without what the
    format cannot hold: files in other folders, points in other coordinates than the poses, and LiDAR sweeps.

    Returns:
        What is left out, and why, one line each.

    Raises:
        CaptureError: the images are not below the folder of the file, so that no reader would find them.
    """
    below = _below(capture.image_dir, path)
    header = {
        "unit": "meter" if capture.is_metric else "of the capture",
        "gps_origin_lat_lon_alt": None if capture.geo_origin is None else list(capture.geo_origin),
        "ply_file_path": _points(capture, capture.sparse_points, below),
        "lidar_ply": _points(capture, capture.lidar_points, below),
        "source": capture.source,
        "applied_transform": _applied_transform(capture),
        "applied_scale": capture.applied_scale,
        **_file_lists(capture, below),
    }
    masks_below = below if capture.mask_dir in (None, capture.image_dir) else None
    lines = ",\n".join(
        "    " + json.dumps(_entry(frame, below, masks_below), allow_nan=False) for frame in capture.frames
    )
    text = format_json({**{key: value for key, value in header.items() if value is not None}, "frames": []})
    write_atomic(path, text.replace('"frames": []', f'"frames": [\n{lines}\n  ]'))
    return tuple(_left_out(capture, has_masks=masks_below is not None))


def _left_out(capture: Capture, *, has_masks: bool) -> Iterator[str]:
    masked = sum(frame.mask is not None or frame.sky_mask is not None for frame in capture.frames)
    if masked and not has_masks:
        yield f"the masks of {masked} images are left out: they are in {capture.mask_dir}, apart from the images"
    if (capture.sparse_points or capture.lidar_points) and not _points_in_place(capture):
        yield "the points are left out: they are apart from the images, or in other coordinates than the poses"
    if capture.lidar_sweeps:
        yield f"{len(capture.lidar_sweeps)} LiDAR sweeps are left out: the format has no place for their times"


def _below(image_dir: Path, path: Path) -> PurePath:
    """Return the image folder relative to the folder of the file."""
    folder, images = path.parent.resolve(), image_dir.resolve()
    if not images.is_relative_to(folder):
        raise CaptureError(
            f"{path}: the images are in {image_dir}, not below this file's folder, so no reader would find them; "
            f"write {image_dir / path.name}, or to a folder above"
        )
    return images.relative_to(folder)


def _join(below: PurePath, path: str) -> str:
    return (below / path).as_posix()


def _points(capture: Capture, points: str | None, below: PurePath) -> str | None:
    return _join(below, points) if points is not None and _points_in_place(capture) else None


def _points_in_place(capture: Capture) -> bool:
    """Return whether the point files are next to the images, in the world of the poses."""
    return capture.points_dir in (None, capture.image_dir) and capture.source_to_world == IDENTITY


def _applied_transform(capture: Capture) -> list[list[float]] | None:
    """Return nerfstudio's record of how the poses were turned, with what the import turned."""
    if capture.applied_transform is None:
        return None
    return [list(row) for row in chain(capture.source_to_world, capture.applied_transform)]


def _file_lists(capture: Capture, below: PurePath) -> dict[str, list[str] | None]:
    """Return nerfstudio's lists of the images of each use, if the capture fixes it."""
    if all(frame.split is None for frame in capture.frames):
        return {}
    lists: dict[str, list[str] | None] = {}
    for split in get_args(Split):
        frames = [frame for frame in capture.frames if (frame.split or "train") == split]
        lists[f"{split}_filenames"] = [_join(below, frame.image) for frame in frames] or None
    return lists


def _entry(frame: Frame, below: PurePath, masks_below: PurePath | None) -> dict[str, Any]:
    # OpenGL camera axes: y up, z backward.
    pose = [[sign * x + 0.0 for sign, x in zip((1, -1, -1, 1), row, strict=True)] for row in frame.camera_to_world]
    metadata = {
        "mask_path": None if frame.mask is None or masks_below is None else _join(masks_below, frame.mask),
        "sky_mask_path": None if frame.sky_mask is None or masks_below is None else _join(masks_below, frame.sky_mask),
        "depth_file_path": None if frame.depth is None else _join(below, frame.depth),
        "colmap_im_id": frame.colmap_id,
        "timestamp": frame.timestamp,
        "exposure": frame.exposure,
        "gps": None if frame.gps is None else list(frame.gps),
        "grayscale": frame.grayscale or None,
    }
    return {
        "file_path": _join(below, frame.image),
        **_lens(frame.intrinsics),
        "camera_id": frame.camera,
        "sequence_id": frame.segment,
        **{key: value for key, value in metadata.items() if value is not None},
        "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]],
    }


def _lens(lens: Intrinsics) -> dict[str, Any]:
    size = {"w": lens.width, "h": lens.height}
    focal = {"fl_x": lens.fx, "fl_y": lens.fy, "cx": lens.cx, "cy": lens.cy}
    distortion = {key: value for key, value in zip(_COEFFICIENTS, lens.distortion, strict=True) if value}
    return {"camera_model": _MODELS[lens.model], **size, **focal, **distortion}
