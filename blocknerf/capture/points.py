"""Point clouds and their PLY files."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32, UInt8

from blocknerf.errors import CaptureError
from blocknerf.files import open_regular, write_atomic

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER = 1 << 16
_MAX_WORD = 64
"""Characters read of each word of a header; messages repeat such words."""
MAX_CLOUD = 2 << 30
"""Maximum bytes of points in a file: 140 million with colors. Reading needs three times as much memory."""
_HINT = "write it again as a PLY of vertices"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointCloud:
    """Points in the world, with optional colors."""

    positions: Float32[np.ndarray, "points 3"]
    colors: UInt8[np.ndarray, "points 3"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def transformed(self, transform: Sequence[Sequence[float]]) -> "PointCloud":
        """Return the points moved by three rows [A | t], in double precision."""
        return replace(self, positions=_transformed(self.positions, transform).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """Vertex description in the header of a PLY; `offset` is the start of the body in bytes."""

    encoding: str
    count: int
    properties: tuple[tuple[str, str], ...]
    offset: int

    @property
    def layout(self) -> np.dtype:
        order = _BYTE_ORDERS[self.encoding]
        return np.dtype([(name, order + _TYPES[kind]) for name, kind in self.properties])


def read_ply(path: Path | str, transform: Sequence[Sequence[float]] | None = None) -> PointCloud:
    """Read the vertices of a PLY (ascii or binary), ignoring properties other than position and color.

    Colors of 8 or 16 bits, or floating-point from 0 to 1 or 255, become 8 bits.

    Args:
        path: The file.
        transform: Three rows [A | t] that move the points in double precision, before single precision rounds them.

    Raises:
        CaptureError: the file is missing, not a PLY, too large or cut short, or a position is not finite.
    """
    with _open_ply(path) as (stream, header):
        return _cloud(_read_body(stream, header), transform)


def check_ply(path: Path | str) -> None:
    """Check a point file by its header and length alone.

    Raises:
        CaptureError: the file is missing, not a PLY, too large or cut short.
    """
    with _open_ply(path):
        pass


def write_ply(cloud: PointCloud, path: Path | str) -> None:
    """Write a binary PLY atomically."""
    names = ["x", "y", "z"] + (["red", "green", "blue"] if cloud.colors is not None else [])
    kinds = ["float" if name in "xyz" else "uchar" for name in names]
    header = _Header(
        encoding="binary_little_endian", count=len(cloud), properties=tuple(zip(names, kinds, strict=True)), offset=0
    )
    vertices = np.zeros(len(cloud), header.layout)
    for axis, name in enumerate("xyz"):
        vertices[name] = cloud.positions[:, axis]
    if cloud.colors is not None:
        for channel, name in enumerate(("red", "green", "blue")):
            vertices[name] = cloud.colors[:, channel]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    lines += [f"property {kind} {name}" for kind, name in zip(kinds, names, strict=True)] + ["end_header", ""]
    write_atomic(path, "\n".join(lines).encode("ascii") + vertices.tobytes())


def store_ply(cloud: PointCloud, folder: Path) -> str:
    """Write a PLY into a folder and return its name, which is that of its content: other files stay as they are."""
    digest = hashlib.sha256(cloud.positions.tobytes())
    digest.update(b"" if cloud.colors is None else cloud.colors.tobytes())
    name = f"points-{digest.hexdigest()[:12]}.ply"
    if not (folder / name).is_file():
        write_ply(cloud, folder / name)
    return name


@contextmanager
def _open_ply(path: Path | str) -> Iterator[tuple[BinaryIO, _Header]]:
    """Open a PLY and check its header and length; a `ValueError` inside becomes a one-line `CaptureError`."""
    try:
        with open_regular(path, "point file", CaptureError) as (stream, size):
            try:
                header = _read_header(stream.read(_MAX_HEADER))
                _check_length(header, size)
                yield stream, header
            except ValueError as error:
                raise CaptureError(f"{path}: not a usable point cloud ({error}); {_HINT}") from None
    except FileNotFoundError:
        raise CaptureError(f"{path}: this point file does not exist; restore it or remove its key") from None


def _check_length(header: _Header, size: int) -> None:
    """Raise if a file is too large, or binary and shorter than declared, before memory is allocated."""
    length = size if header.encoding == "ascii" else header.count * header.layout.itemsize
    if length > size - header.offset and header.encoding != "ascii":
        raise ValueError(f"cut short: {(size - header.offset) // header.layout.itemsize} of {header.count} points")
    if length > MAX_CLOUD:
        raise ValueError(f"{length >> 20:,} MiB of points, more than the limit of {MAX_CLOUD >> 20:,} MiB; thin them")


def _read_header(data: bytes) -> _Header:
    end = data.find(b"end_header")
    offset = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or offset == 0:
        raise ValueError("no PLY header")
    lines = data[:end].decode("ascii", "replace").splitlines()[1:]
    words = [[word[:_MAX_WORD] for word in line.split()] for line in lines]
    try:
        encoding = next((line[1] for line in words if line[:1] == ["format"]), "")
        elements = [(line[1], int(line[2])) for line in words if line[:1] == ["element"]]
        properties = _vertex_properties(words)
    except (IndexError, ValueError):
        raise ValueError("its header is damaged") from None
    count = _vertex_count(elements)
    _check_header(encoding, properties)
    return _Header(encoding=encoding, count=count, properties=tuple(properties), offset=offset)


def _vertex_properties(lines: list[list[str]]) -> list[tuple[str, str]]:
    """Return name and type of each property of the vertex element."""
    properties, inside = [], False
    for words in lines:
        if words[:1] == ["element"]:
            inside = words[1] == "vertex"
        elif words[:1] == ["property"] and inside:
            properties.append((words[-1], words[1]))
    return properties


def _vertex_count(elements: list[tuple[str, int]]) -> int:
    for name, count in elements:
        if not 0 <= count <= sys.maxsize:
            raise ValueError(f"an impossible number of {name!r}")
        if name == "vertex":
            return count
        if count:
            raise ValueError(f"element {name!r} comes before the vertices")
    raise ValueError("it declares no vertices")


def _check_header(encoding: str, properties: list[tuple[str, str]]) -> None:
    if encoding not in _BYTE_ORDERS:
        raise ValueError(f"format {encoding!r} is unknown")
    for name, kind in properties:
        if kind not in _TYPES:
            raise ValueError(f"property {name!r} is of kind {kind!r}")
    names = [name for name, _ in properties]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"property {name!r} appears twice")
    missing = sorted({"x", "y", "z"} - set(names))
    if missing:
        raise ValueError(f"vertices have no {missing[0]!r}")


def _read_body(stream: BinaryIO, header: _Header) -> np.ndarray:
    stream.seek(header.offset)
    if header.encoding == "ascii":
        return _read_ascii(stream, header)
    return np.fromfile(stream, header.layout, header.count)


def _read_ascii(stream: BinaryIO, header: _Header) -> np.ndarray:
    rows = islice((line for line in stream if not line.isspace()), header.count)
    width, first = len(header.properties), next(rows, None)
    if first is None:
        table = np.empty((0, width))
    else:
        try:
            table = np.loadtxt(chain([first], rows), comments=None, usecols=range(width), ndmin=2, encoding="latin-1")
        except ValueError:
            raise ValueError(f"a point is not {width} numbers") from None
    if len(table) < header.count:
        raise ValueError(f"cut short: {len(table)} of {header.count} points")
    vertices = np.zeros(header.count, header.layout)
    with np.errstate(invalid="ignore", over="ignore"):  # unused properties may hold anything
        for column, (name, _) in enumerate(header.properties):
            vertices[name] = table[:, column]
    return vertices


def _cloud(vertices: np.ndarray, transform: Sequence[Sequence[float]] | None) -> PointCloud:
    with np.errstate(over="ignore", invalid="ignore"):  # overflow becomes infinity and is rejected below
        positions = np.stack([vertices[axis] for axis in "xyz"], -1)
        if transform is not None:
            positions = _transformed(positions, transform)
        positions = positions.astype(np.float32)
    invalid = int((~np.isfinite(positions)).any(-1).sum())
    if invalid:
        raise ValueError(f"{invalid} of {len(positions)} positions are not finite")
    return PointCloud(positions=positions, colors=_colors(vertices))


def _transformed(positions: np.ndarray, transform: Sequence[Sequence[float]]) -> np.ndarray:
    matrix = np.array(transform)
    return positions.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]


def _colors(vertices: np.ndarray) -> np.ndarray | None:
    """Return colors of any range as bytes; 16 bits are bytes times 257, as PDAL writes them."""
    names = ("red", "green", "blue")
    if not set(names) <= set(vertices.dtype.names or ()):
        return None
    colors = np.stack([vertices[name] for name in names], -1)
    if colors.dtype == np.uint8:
        return colors
    values = np.nan_to_num(colors.astype(np.float64), posinf=0.0, neginf=0.0)
    largest = values.max(initial=0.0)
    if colors.dtype.kind == "f" and largest <= 1.0:
        values *= 255.0
    elif 255.0 < largest <= 65_535.0:
        values /= 257.0
    elif largest > 65_535.0:
        raise ValueError(f"a color of {largest:g}; give 8 or 16 bits, or 0 to 1")
    return (np.clip(values, 0.0, 255.0) + 0.5).astype(np.uint8)
