"""The files of a COLMAP model, binary and text: cameras, images with poses, and points.

Layouts after COLMAP's documentation ("Output format"). Version 4 adds rigs and frames, which repeat what the images
say.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from blocknerf.capture.points import PointCloud
from blocknerf.errors import CaptureError
from blocknerf.files import open_regular
from blocknerf.values import format_value

MODEL_PARAMETERS = {
    "SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8, "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12, "FOV": 5, "SIMPLE_RADIAL_FISHEYE": 4, "RADIAL_FISHEYE": 5, "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16, "SIMPLE_DIVISION": 4, "DIVISION": 5, "SIMPLE_FISHEYE": 3, "FISHEYE": 4,
    "EUCM": 6, "EQUIRECTANGULAR": 2,
}  # fmt: skip
"""Number of parameters of each camera model; their order is that of the numbers in binary files."""
MAX_NAME = 2_000
"""Maximum bytes of an image's name."""
_HINT = "copy the model again, or export it again"

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColmapCamera:
    """A lens as COLMAP stores it."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColmapImage:
    """An image with its pose, world to camera."""

    name: str
    camera: int
    quaternion: tuple[float, float, float, float]
    """w, x, y, z."""
    translation: tuple[float, float, float]


def is_model(folder: Path) -> bool:
    """Return whether a folder holds the cameras and images of a model."""
    return any(all((folder / f"{name}.{kind}").is_file() for name in ("cameras", "images")) for kind in ("bin", "txt"))


def model_file(folder: Path, name: str) -> Path:
    """Return the file of a part of a model ("images"): binary if there is one, as COLMAP prefers, else text."""
    binary = folder / f"{name}.bin"
    return binary if binary.is_file() else folder / f"{name}.txt"


def count_images(folder: Path) -> int:
    """Return the number of images of a model, from the head of a binary file or the length of a text file.

    Raises:
        CaptureError: the file cannot be read.
    """
    path = model_file(folder, "images")
    with _parts(path) as (stream, size):
        if path.suffix == ".bin":
            return int.from_bytes(stream.read(8), "little")
        return size


def read_cameras(folder: Path) -> dict[int, ColmapCamera]:
    """Return the cameras of a model by their numbers.

    Raises:
        CaptureError: the file is missing, cut short or broken.
    """
    path = model_file(folder, "cameras")
    return dict(_binary(path, "camera", 24, _camera) if path.suffix == ".bin" else _text(path, _camera_line))


def read_images(folder: Path) -> list[ColmapImage]:
    """Return the images of a model, in the order of their names.

    Raises:
        CaptureError: the file is missing, cut short or broken.
    """
    path = model_file(folder, "images")
    images = _binary(path, "image", 73, _image) if path.suffix == ".bin" else _text(path, _image_line, step=2)
    return sorted(images, key=lambda image: image.name)


def read_points(folder: Path) -> PointCloud | None:
    """Return the points of a model with their colors, or None if it has none.

    Raises:
        CaptureError: the file is cut short or broken.
    """
    path = model_file(folder, "points3D")
    if not path.is_file():
        return None
    points = list(_binary(path, "point", 51, _point) if path.suffix == ".bin" else _text(path, _point_line))
    if not points:
        return None
    table = np.array(points, dtype=np.float64)
    with np.errstate(over="ignore"):
        positions = table[:, :3].astype(np.float32)
    if not np.isfinite(positions).all():
        raise CaptureError(f"{path}: holds points that are not finite; {_HINT}")
    return PointCloud(positions=positions, colors=table[:, 3:].clip(0, 255).astype(np.uint8))


@contextmanager
def _parts(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    try:
        with open_regular(path, "part of a COLMAP model", CaptureError) as opened:
            yield opened
    except FileNotFoundError:
        raise CaptureError(f"{path}: this part of a COLMAP model does not exist; {_HINT}") from None


class _Cursor:
    """A position in a binary file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.offset = data, 0

    def take(self, layout: struct.Struct) -> tuple:
        start, self.offset = self.offset, self.offset + layout.size
        return layout.unpack_from(self.data, start)

    def skip(self, size: int) -> None:
        """Raises: ValueError: the file ends before."""
        self.offset += size
        if self.offset > len(self.data):
            raise ValueError("it is cut short")

    def text(self) -> str:
        """Raises: ValueError: no end of the text within `MAX_NAME` bytes, or it is not UTF-8."""
        end = self.data.find(b"\0", self.offset, self.offset + MAX_NAME)
        if end < 0:
            raise ValueError("a name without end")
        start, self.offset = self.offset, end + 1
        return self.data[start:end].decode()


_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3BdQ")
_OBSERVATION_BYTES, _TRACK_BYTES = 24, 8


def _binary(path: Path, what: str, least: int, read: Callable[[_Cursor], _Record]) -> Iterator[_Record]:
    """Yield the records of a binary file, each of at least `least` bytes."""
    number = count = 0
    with _parts(path) as (stream, size):
        try:
            if size < _COUNT.size:
                raise ValueError("it is cut short")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                cursor = _Cursor(data)
                (count,) = cursor.take(_COUNT)
                if count * least > size:
                    raise ValueError(f"it declares {count:,} but has room for at most {size // least:,}")
                while number < count:
                    yield read(cursor)
                    number += 1
        except (struct.error, ValueError) as error:
            reason = "it is cut short" if isinstance(error, struct.error) else error
            raise CaptureError(f"{path}: {what} {number + 1} of {count} cannot be read ({reason}); {_HINT}") from None


def _camera(cursor: _Cursor) -> tuple[int, ColmapCamera]:
    number, model, width, height = cursor.take(_CAMERA)
    if not 0 <= model < len(MODEL_PARAMETERS):
        raise ValueError(f"unknown camera model {model}")
    name = list(MODEL_PARAMETERS)[model]
    parameters = cursor.take(struct.Struct(f"<{MODEL_PARAMETERS[name]}d"))
    return number, ColmapCamera(model=name, width=width, height=height, parameters=parameters)


def _image(cursor: _Cursor) -> ColmapImage:
    _, *pose, camera = cursor.take(_IMAGE)
    name = cursor.text()
    (observations,) = cursor.take(_COUNT)
    cursor.skip(observations * _OBSERVATION_BYTES)
    return _posed(name, camera, pose)


def _point(cursor: _Cursor) -> tuple[float, ...]:
    _, x, y, z, red, green, blue, _, track = cursor.take(_POINT)
    cursor.skip(track * _TRACK_BYTES)
    return x, y, z, red, green, blue


def _text(path: Path, read: Callable[[list[str]], _Record], step: int = 1) -> Iterator[_Record]:
    """Yield the records of a text file, one in `step` lines; comments are ignored."""
    number = 0
    with _parts(path) as (stream, _):
        lines = enumerate(stream, 1)
        for number, line in lines:
            if line.isspace() or line.lstrip().startswith(b"#"):
                continue
            try:
                yield read(line.decode().split(maxsplit=9))
            except (ValueError, IndexError) as error:
                reason = "a field is missing" if isinstance(error, IndexError) else error
                raise CaptureError(f"{path}: line {number} cannot be read ({reason!s:.80}); {_HINT}") from None
            for _ in range(step - 1):  # the observations of an image; the line may be empty
                next(lines, None)


def _camera_line(words: list[str]) -> tuple[int, ColmapCamera]:
    words = [*words[:9], *words[9].split()] if len(words) > 9 else words
    number, model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
    parameters = tuple(map(float, words[4:]))
    if model not in MODEL_PARAMETERS:
        raise ValueError(f"unknown camera model {format_value(model)}")
    if len(parameters) != MODEL_PARAMETERS[model]:
        raise ValueError(f"{len(parameters)} parameters; {model} has {MODEL_PARAMETERS[model]}")
    return number, ColmapCamera(model=model, width=width, height=height, parameters=parameters)


def _image_line(words: list[str]) -> ColmapImage:
    return _posed(words[9].strip(), int(words[8]), [float(word) for word in words[1:8]])


def _point_line(words: list[str]) -> tuple[float, ...]:
    return (*(float(word) for word in words[1:4]), *(int(word) for word in words[4:7]))


def _posed(name: str, camera: int, pose: list[float]) -> ColmapImage:
    w, x, y, z, *translation = pose
    first, second, third = translation
    return ColmapImage(name=name, camera=camera, quaternion=(w, x, y, z), translation=(first, second, third))
