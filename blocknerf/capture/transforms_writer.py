"""Writer of nerfstudio's `transforms.json`, for other programs and for our importer."""

import json
from pathlib import Path, PurePath
from typing import Any

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.errors import CaptureError
from blocknerf.files import format_json, write_atomic

_MODELS = {
    CameraModel.PINHOLE: "PINHOLE",
    CameraModel.OPENCV: "OPENCV",
    CameraModel.FISHEYE: "OPENCV_FISHEYE",
}
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4")


def write_transforms(capture: Capture, path: Path) -> None:
    """Write a capture's `transforms.json` atomically, one line per frame.

    `read_transforms` returns the same capture, except that frames are named by their image paths.

    Raises:
        CaptureError: the images are not below the folder of the file, so that no reader would find them.
    """
    below = _below(capture.image_dir, path)
    header = {
        "unit": "meter" if capture.is_metric else "of the capture",
        "gps_origin_lat_lon_alt": None if capture.geo_origin is None else list(capture.geo_origin),
        "ply_file_path": None if capture.sparse_points is None else _join(below, capture.sparse_points),
        "lidar_ply": None if capture.lidar_points is None else _join(below, capture.lidar_points),
        "source": capture.source,
    }
    lines = ",\n".join("    " + json.dumps(_entry(frame, below), allow_nan=False) for frame in capture.frames)
    text = format_json({**{key: value for key, value in header.items() if value is not None}, "frames": []})
    write_atomic(path, text.replace('"frames": []', f'"frames": [\n{lines}\n  ]'))


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


def _entry(frame: Frame, below: PurePath) -> dict[str, Any]:
    # OpenGL camera axes: y up, z backward.
    pose = [[sign * x + 0.0 for sign, x in zip((1, -1, -1, 1), row, strict=True)] for row in frame.camera_to_world]
    metadata = {
        "mask_path": None if frame.mask is None else _join(below, frame.mask),
        "sky_mask_path": None if frame.sky_mask is None else _join(below, frame.sky_mask),
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
