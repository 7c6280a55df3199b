"""A capture: posed photographs of one place, and the points measured with them (`capture.json`)."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from blocknerf.cameras import CameraModel, Cameras
from blocknerf.capture.frame import Frame, Intrinsics, check_path, check_relative, pose_from_flat
from blocknerf.capture.json_reader import JsonReader, error_context
from blocknerf.capture.points import PointCloud, check_ply, read_ply
from blocknerf.errors import CaptureError
from blocknerf.files import check_format_version, read_json, write_atomic
from blocknerf.images import check_size, image_size, read_image, read_mask, read_mask_coverage
from blocknerf.values import finite, format_value, one_case

CAPTURE_FORMAT = "blocknerf.capture/2"
_REMEDY = "ingest the capture again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Posed photographs of one place; they are read from disk when asked for, never all at once.

    World: right-handed, z up, metres if `is_metric`, else the capture's own unit.

    Raises:
        CaptureError: there are no frames, two have one name or one picture, or coordinates are too large.
    """

    image_dir: Path
    """Folder in which the photographs lie; every path below is relative to it."""
    frames: tuple[Frame, ...]
    sparse_points: str | None = None
    """PLY of sparse points, as from structure from motion."""
    lidar_points: str | None = None
    """PLY of measured points."""
    is_metric: bool
    """Whether lengths are metres."""
    geo_origin: tuple[float, float, float] | None = None
    """Latitude, longitude (degrees) and altitude (metres) of the world's origin."""
    source: str
    """Where the capture comes from, in words or as a path."""

    def __post_init__(self) -> None:
        if not self.frames:
            raise CaptureError("the capture has no frames; give at least one posed photograph")
        for kind in ("name", "image"):
            twice = _first_repeated([getattr(frame, kind) for frame in self.frames])
            if twice is not None:
                raise CaptureError(f"duplicate frame {one_case(twice)}; list each photograph once")
        for path in (self.sparse_points, self.lidar_points):
            if path is not None:
                check_relative(path)
        _check_geo_origin(self.geo_origin)
        _check_precision(self)

    def __len__(self) -> int:
        return len(self.frames)

    def cameras(self) -> Cameras:
        """Every frame's camera, in order, in single precision."""
        lenses = [frame.intrinsics for frame in self.frames]
        return Cameras(
            camera_to_world=torch.tensor([frame.camera_to_world for frame in self.frames]),
            intrinsics=torch.tensor([(lens.fx, lens.fy, lens.cx, lens.cy) for lens in lenses]),
            distortion=torch.tensor([lens.distortion for lens in lenses]),
            model=torch.tensor([int(lens.model) for lens in lenses]),
            width=torch.tensor([lens.width for lens in lenses]),
            height=torch.tensor([lens.height for lens in lenses]),
        )

    def index(self, name: str) -> int:
        """The position of the frame of that name.

        Raises:
            CaptureError: there is none.
        """
        for i, frame in enumerate(self.frames):
            if frame.name == name:
                return i
        raise CaptureError(f"{self.image_dir}: no frame is named {name!r}; names are as in capture.json")

    def select(self, indices: Sequence[int]) -> "Capture":
        """The same capture with only these frames, in this order.

        Raises:
            CaptureError: an index is out of range, or there are none.
        """
        return replace(self, frames=tuple(self._frame(i) for i in indices))

    @property
    def extent(self) -> float:
        """Half the diagonal of the box around the cameras; 1 where they all stand in one place."""
        half = _half_diagonal(self)
        return half if half > 1e-6 else 1.0

    @property
    def segments(self) -> dict[str, list[int]]:
        """Frame indices of each segment, in the order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i, frame in enumerate(self.frames):
            groups.setdefault(frame.segment, []).append(i)
        return groups

    def read_image(self, index: int, downscale: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """The photograph, averaged by area to floor(size / downscale); its camera is `scaled(1 / downscale)`.

        Raises:
            CaptureError: it is missing or broken, its size is not the camera's, or the index is out of range.
        """
        frame = self._frame(index)
        return read_image(self.image_dir / frame.image, downscale, frame.intrinsics.size)

    def read_mask(self, index: int, downscale: int = 1) -> Bool[np.ndarray, "height width"] | None:
        """Which pixels are usable (static), or None where the frame has no mask.

        Raises:
            CaptureError: it is missing, broken or of another size than the photograph.
        """
        frame = self._frame(index)
        return None if frame.mask is None else read_mask(self.image_dir / frame.mask, downscale, frame.intrinsics.size)

    def read_sky_mask(self, index: int, downscale: int = 1) -> Float[np.ndarray, "height width"] | None:
        """How much of each pixel shows the sky, 0..1, or None where that is not known of the frame.

        Raises:
            CaptureError: the file is missing, broken or of another size than the photograph.
        """
        frame = self._frame(index)
        return (
            None
            if frame.sky_mask is None
            else read_mask_coverage(self.image_dir / frame.sky_mask, downscale, frame.intrinsics.size)
        )

    def read_sparse_points(self) -> PointCloud | None:
        """The sparse points, or None where the capture has none."""
        return None if self.sparse_points is None else read_ply(self.image_dir / self.sparse_points)

    def read_lidar_points(self) -> PointCloud | None:
        """The measured points, or None where the capture has none."""
        return None if self.lidar_points is None else read_ply(self.image_dir / self.lidar_points)

    def _frame(self, index: int) -> Frame:
        if not 0 <= index < len(self.frames):
            raise CaptureError(
                f"{self.image_dir}: frame index {index} is out of range; give 0 to {len(self.frames) - 1}"
            )
        return self.frames[index]


def check_files(capture: Capture) -> None:
    """Refuse a capture of which a photograph, mask or point file is missing, is none, or has the wrong size.

    Only the headers of images and points are read.

    Raises:
        CaptureError: naming the first such file.
    """
    for frame in capture.frames:
        for path in (frame.image, frame.mask, frame.sky_mask):
            if path is not None:
                check_size(capture.image_dir / path, image_size(capture.image_dir / path), frame.intrinsics.size)
    for path in (capture.sparse_points, capture.lidar_points):
        if path is not None:
            check_ply(capture.image_dir / path)


def write_capture(capture: Capture, path: Path | str) -> None:
    """Write `capture.json`, whole or not at all; one line a frame, lenses stored once, numbers exactly.

    The photographs' folder is stored relative to the file's, so that both can move together.
    """
    lenses = list(dict.fromkeys(frame.intrinsics for frame in capture.frames))
    numbers = {lens: i for i, lens in enumerate(lenses)}
    head = {
        "format": CAPTURE_FORMAT,
        "image_dir": Path(os.path.relpath(capture.image_dir.resolve(), Path(path).parent.resolve())).as_posix(),
        **{
            key: getattr(capture, key) for key in ("source", "is_metric", "geo_origin", "sparse_points", "lidar_points")
        },
    }
    lines = [f"{json.dumps(key)}: {_line(value)}" for key, value in head.items()]
    lines.append(_list("intrinsics", [_line(_lens_data(lens)) for lens in lenses]))
    lines.append(_list("frames", [_line(_frame_data(frame, numbers[frame.intrinsics])) for frame in capture.frames]))
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_capture(path: Path | str) -> Capture:
    """Read `capture.json`, strictly; the photographs themselves are not looked at.

    Raises:
        CaptureError: the file is missing, broken, foreign or newer; the message names file, key and remedy.
    """
    path = Path(path)
    data = read_json(path, "capture", CaptureError)
    check_format_version(data.get("format"), CAPTURE_FORMAT, path, _REMEDY, CaptureError)
    entry = JsonReader(data, str(path), remedy=_REMEDY)
    entry.text("format")
    lenses = [_read_lens(item) for item in entry.objects("intrinsics")]
    frames = [_read_frame(item, lenses) for item in entry.objects("frames")]
    root, facts = entry.text("image_dir"), _read_facts(entry)
    entry.reject_unknown()
    with error_context(str(path)):
        check_path(root)
        return Capture(image_dir=Path(os.path.normpath(path.parent.resolve() / root)), frames=tuple(frames), **facts)


def _read_facts(entry: JsonReader) -> dict[str, Any]:
    return {
        "source": entry.text("source"),
        "is_metric": entry.bool_("is_metric"),
        "geo_origin": entry.vec3("geo_origin") if entry.optional("geo_origin") else None,
        "sparse_points": entry.text("sparse_points") if entry.optional("sparse_points") else None,
        "lidar_points": entry.text("lidar_points") if entry.optional("lidar_points") else None,
    }


def _read_lens(entry: JsonReader) -> Intrinsics:
    model = entry.text("model")
    if model not in CameraModel.__members__:
        raise CaptureError(
            f"{entry.location('model')} is {format_value(model)}; write one of {', '.join(CameraModel.__members__)}"
        )
    k1, k2, p1, p2, k3, k4 = entry.numbers("distortion", 6)
    facts: dict[str, Any] = {key: entry.number(key) for key in ("fx", "fy", "cx", "cy")}
    facts |= {key: entry.int_(key) for key in ("width", "height")}
    entry.reject_unknown()
    with error_context(entry.where):
        return Intrinsics(**facts, model=CameraModel[model], distortion=(k1, k2, p1, p2, k3, k4))


def _read_frame(entry: JsonReader, lenses: Sequence[Intrinsics]) -> Frame:
    number = entry.int_("intrinsics")
    if not 0 <= number < len(lenses):
        raise CaptureError(f"{entry.location('intrinsics')} is {number}, out of range; there are {len(lenses)} cameras")
    facts: dict[str, Any] = {
        **{key: entry.text(key) for key in ("name", "image", "segment", "camera")},
        "mask": entry.text("mask") if entry.optional("mask") else None,
        "sky_mask": entry.text("sky_mask") if entry.optional("sky_mask", added=True) else None,
        **{key: entry.number(key) if entry.optional(key) else None for key in ("timestamp", "exposure")},
        "gps": entry.vec3("gps") if entry.optional("gps") else None,
        "grayscale": entry.bool_("grayscale"),
    }
    pose = pose_from_flat(entry.numbers("camera_to_world", 12))
    entry.reject_unknown()
    with error_context(entry.where):
        return Frame(intrinsics=lenses[number], camera_to_world=pose, **facts)


def _lens_data(lens: Intrinsics) -> dict[str, Any]:
    data = {field.name: getattr(lens, field.name) for field in fields(lens)}
    return data | {"model": lens.model.name}


def _frame_data(frame: Frame, lens: int) -> dict[str, Any]:
    data = {field.name: getattr(frame, field.name) for field in fields(frame)}
    pose = [number for row in frame.camera_to_world for number in row]
    return data | {"intrinsics": lens, "camera_to_world": pose}


def _line(data: object) -> str:
    return json.dumps(data, allow_nan=False, ensure_ascii=False)


def _list(key: str, lines: Sequence[str]) -> str:
    return f'"{key}": [\n' + ",\n".join(lines) + "\n]"


def _first_repeated(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _half_diagonal(capture: Capture) -> float:
    centers = np.array([frame.center for frame in capture.frames])
    return float(np.linalg.norm(np.ptp(centers, axis=0)) / 2)


def _check_geo_origin(origin: tuple[float, float, float] | None) -> None:
    """Refuse what is no place on the earth, or in the air above it."""
    for name, number, most in zip(("latitude", "longitude", "altitude"), origin or (), (90, 360, 1e5), strict=False):
        if finite(number, most) is None:
            raise CaptureError(f"geographic origin: {name} {number:g} is not from -{most:g} to {most:g}; correct it")


def _check_precision(capture: Capture) -> None:
    """Refuse coordinates that single precision would round to more than 1/10,000 of the capture's extent."""
    farthest = max(abs(number) for frame in capture.frames for number in frame.center)
    step = farthest * float(np.finfo(np.float32).eps)
    if farthest > 1e4 and step > 1e-4 * capture.extent:
        raise CaptureError(
            f"cameras lie {farthest:.3g} from the world's origin, which rounds them by {step:.2g};"
            " subtract an offset from all poses and points"
        )
