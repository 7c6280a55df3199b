"""Decoding of images that finds damage: Pillow silently fills the missing pixels of truncated files."""

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
else:
    PillowImage = Any  # Pillow is imported with the first image, not with this module.


def load_completely(image: PillowImage, stream: BinaryIO) -> None:
    """Decode all pixels; raise for truncated files, in which Pillow silently fills missing pixels.

    Raises:
        Exception: of any type, from decoders.
    """
    if image.format == "TIFF":
        _check_tiff(image, stream)
    image.load()
    if image.format == "PNG":
        _check_png(stream)
    elif image.format in ("JPEG", "MPO") and (image.info.get("progressive") or _ends_gray(image)):
        _check_jpeg(stream)


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step and row step of each pass of an interlaced PNG."""


def _check_png(stream: BinaryIO) -> None:
    """Raise if a PNG has a damaged chunk, no end, or missing rows (its zlib stream may end early).

    Raises:
        ValueError: names the defect.
    """
    stream.seek(8)
    kind, missing, inflater = b"", 0, zlib.decompressobj()
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _read_exactly(stream, 8))
        body = _read_exactly(stream, length)
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(_read_exactly(stream, 4), "big"):
            raise ValueError(f"wrong checksum in its chunk {kind!r}")
        if kind == b"IHDR":
            missing = _png_bytes(body)
        while kind == b"IDAT" and body and missing > 0:
            missing -= len(inflater.decompress(body, 1 << 20))
            body = inflater.unconsumed_tail
    if missing > 0:
        raise ValueError("some of its rows are missing")


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("it is truncated")
    return data


def _png_bytes(header: bytes) -> int:
    """Return the uncompressed bytes of a PNG's pixels, with one byte per row for its filter."""
    width, height, depth, color, *_, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    total = 0
    for left, top, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // step_x), -((top - height) // step_y)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _ends_gray(image: PillowImage) -> bool:
    """Return whether the last pixel is mid gray, which libjpeg silently fills in when a file ends early."""
    width, height = image.size
    corner = np.asarray(image.crop((width - 1, height - 1, width, height)).convert("L"))
    # Chroma upsampling mixes in the color of neighbors, but the brightness is unchanged up to rounding.
    return abs(int(corner[0, 0]) - 128) <= 3


def _check_jpeg(stream: BinaryIO) -> None:
    """Raise if a JPEG's data end before its last pixel; FFmpeg's decoder reports it.

    Raises:
        ValueError: the data end early.
    """
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    stream.seek(0)
    try:
        decoder.decode(av.Packet(stream.read()))
    except av.error.InvalidDataError:
        raise ValueError("its data end before its last pixel") from None
    except av.error.FFmpegError:  # a variant of JPEG that FFmpeg does not support
        return


def _check_tiff(image: PillowImage, stream: BinaryIO) -> None:
    """Raise if the strips of a TIFF exceed the file (libtiff would print to stderr) or do not reach the last row.

    Raises:
        ValueError: names the defect.
    """
    if all(tile.extents[3] < image.height for tile in getattr(image, "tile", ())):
        raise ValueError("some of its rows are missing")
    size, tags = stream.seek(0, io.SEEK_END), getattr(image, "tag_v2", {})
    for offsets, lengths in ((273, 279), (324, 325)):
        strips = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        if any(offset + length > size for offset, length in strips):
            raise ValueError("it is truncated")
