"""Pictures and masks on disk, read whole or refused, and their scaling by area."""

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from blocknerf.errors import CaptureError
from blocknerf.files import atomic_path, open_regular
from blocknerf.values import first_line

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
else:
    Picture = Any  # Pillow loads with the first picture, not with the library.

JPEG_QUALITY = 92
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
"""Formats that are read, whatever the suffix, in Pillow's names; JPEG includes MPO.

Cameras and the programs behind them write these. Pillow's other decoders are not run on files of unknown origin: that
of EPS starts Ghostscript.
"""
MAX_IMAGE_PIXELS = 160_000_000
"""Pixels of an image: the largest sensor on drones has 151 million, and decoding takes up to 18 bytes a pixel."""
MAX_FILE_BYTES = 1 << 30
"""Bytes of an image's file: as many pixels of three 16-bit channels take 0.9 GiB without compression."""


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of a picture as stored, from its header alone.

    Raises:
        CaptureError: it is missing, too large, or not an image of one of `FORMATS`.
    """
    with _opened(path) as (picture, _):
        return picture.size


def check_image(path: Path | str, size: tuple[int, int] | None = None) -> None:
    """Refuse an image or mask that `read_image` or `read_mask` would refuse, in less time.

    All its pixels are decoded, those of a JPEG at an eighth of the size, which reads all its data.

    Raises:
        CaptureError: it is missing, not an image, broken, cut short, or of another size.
    """
    with _opened(path) as (picture, stream):
        check_size(path, picture.size, size)
        picture.draft("L", (picture.width // 8, picture.height // 8))
        _load(picture, stream)


def read_image(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """An RGB picture as stored (EXIF orientation is ignored: poses refer to stored pixels).

    Grey pictures get three equal channels, transparent ones a white ground (the convention of synthetic
    scenes); 16 bits are reduced to 8. `downscale` averages by area to floor(size / downscale).
    `size` is the width and height that its camera says it has.

    Raises:
        CaptureError: it is missing, not a picture, broken, or of another size.
    """
    with _opened(path) as (picture, stream):
        check_size(path, picture.size, size)
        _load(picture, stream)
        pixels = _rgb(picture)
    return resize_area(pixels, *downscaled_size(pixels.shape[1], pixels.shape[0], downscale))


FULL_COVERAGE = 1.0 - 1e-4
"""Shares of a pixel above it are all of it, but for rounding."""


def read_mask(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Bool[np.ndarray, "height width"]:
    """Where all that a pixel covers is white in a mask (see `read_mask_coverage`).

    Raises:
        CaptureError: it is missing, not a picture, broken, or of another size.
    """
    return read_mask_coverage(path, downscale, size) > FULL_COVERAGE


def read_mask_coverage(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Float[np.ndarray, "height width"]:
    """How much of what each pixel covers is white in a mask: above half of its brightest value.

    So 0/1 and 0/255 both work. `size` is the width and height of its photograph.

    Raises:
        CaptureError: it is missing, not a picture, broken, or of another size.
    """
    with _opened(path) as (picture, stream):
        check_size(path, picture.size, size)
        _load(picture, stream)
        gray = _gray(picture)
    white = gray > gray.max() / 2
    width, height = downscaled_size(gray.shape[1], gray.shape[0], downscale)
    return resize_area(white.astype(np.float32), width, height)


def write_image(
    path: Path | str, image: UInt8[np.ndarray, "height width 3"] | UInt8[np.ndarray, "height width"]
) -> None:
    """Write a PNG or JPEG (by the suffix), whole or not at all; the same pixels give the same bytes."""
    from PIL import Image

    with atomic_path(path) as part:
        options: dict[str, Any] = (
            {"quality": JPEG_QUALITY, "subsampling": 0} if part.suffix.lower() in (".jpg", ".jpeg") else {}
        )
        Image.fromarray(np.ascontiguousarray(image)).save(part, **options)


def check_size(path: Path | str, found: tuple[int, int], expected: tuple[int, int] | None) -> None:
    """Refuse a picture or mask whose width and height are not the expected ones, where any are."""
    if expected is not None and found != expected:
        sizes = f"{found[0]}x{found[1]} but its camera says {expected[0]}x{expected[1]}"
        raise CaptureError(f"{path}: the picture is {sizes}; rescale the picture or correct w, h and the focal length")


def downscaled_size(width: int, height: int, downscale: int) -> tuple[int, int]:
    """Size of a picture downscaled by a whole number, rounded down as `Cameras.scaled(1 / downscale)` does.

    >>> downscaled_size(397, 120, 2)
    (198, 60)
    """
    if downscale < 1:
        raise CaptureError(f"downscale is {downscale}; give a whole number of at least 1")
    return max(width // downscale, 1), max(height // downscale, 1)


def resize_area(
    image: UInt8[np.ndarray, "height width *channels"] | Float[np.ndarray, "height width *channels"],
    width: int,
    height: int,
) -> UInt8[np.ndarray, "rows columns *channels"] | Float[np.ndarray, "rows columns *channels"]:
    """The picture at a smaller size, each pixel the mean of the area it covers."""
    if image.shape[:2] == (height, width):
        return image
    import cv2

    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def to_uint8(image: Float[Tensor, "*shape"] | Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Display values 0..1 as bytes, clipped and rounded.

    >>> to_uint8(torch.tensor([-1.0, 0.5, 2.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    if isinstance(image, Tensor):
        # Before it leaves a GPU: a quarter as much to copy.
        return (image.detach().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def to_float(image: UInt8[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes as display values 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).float() / 255.0


_OPENING = threading.Lock()
"""Held while an image is opened: filters of warnings and Pillow's limit, which the process has once, differ then."""
_KINDS = {
    b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"8BPS": "PSD", b"GIF8": "GIF",
    b"v/1\x01": "OpenEXR", b"\x00\x00\x00\x0cjP": "JPEG 2000", b"\x00\x00\x00\x0cJXL": "JPEG XL",
    **{b"P%d" % number: "Netpbm" for number in range(1, 8)},
}  # fmt: skip
"""How files begin that are no image, or one that is not read."""


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[Picture, BinaryIO]]:
    """An image whose header has been read, and its file; whatever fails inside is refused in one line.

    Raises:
        CaptureError: it is missing, empty, too large, not an image of one of `FORMATS`, or broken.
    """
    try:
        with open_regular(path, "image", CaptureError) as (stream, size):
            if size == 0:
                raise CaptureError(f"{path}: the file is empty (zero size); replace it or remove its frame")
            with _in_one_line(path, "not a readable picture"):
                if size > MAX_FILE_BYTES:
                    raise ValueError(f"{size >> 20:,} MiB; at most {MAX_FILE_BYTES >> 20:,} MiB are read")
                picture = _identified(stream)
            _check_area(path, picture.size)
            with _in_one_line(path, "the picture is broken"):
                yield picture, stream
    except FileNotFoundError:
        raise CaptureError(f"{path}: this picture does not exist; restore it or remove its frame") from None


@contextmanager
def _in_one_line(path: Path | str, what: str) -> Iterator[None]:
    try:
        yield
    except CaptureError:
        raise
    except Exception as fault:  # Decoders of broken files raise errors of any kind.
        raise CaptureError(f"{path}: {what} ({first_line(fault)}); replace it or remove its frame") from None


def _identified(stream: BinaryIO) -> Picture:
    """The image of a file, its pixels not decoded."""
    from PIL import Image, UnidentifiedImageError

    with _OPENING, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours stands in its place
        try:
            picture = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"{_kind(stream)}, not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    # Elsewhere these are of metadata that nobody reads; the directory of a TIFF says where its pixels are.
    if picture.format == "TIFF" and any(re.search("truncated|corrupt", str(each.message), re.I) for each in told):
        raise ValueError("its directory is damaged")
    return picture


def _kind(stream: BinaryIO) -> str:
    """What a file that is not read begins as."""
    stream.seek(0)
    head = stream.read(12)
    if head[4:8] == b"ftyp":  # a family of formats: HEIC and AVIF images, MP4 videos
        return head[8:].decode("ascii", "replace").strip().upper()
    return next((kind for start, kind in _KINDS.items() if head.startswith(start)), "of another format")


def _check_area(path: Path | str, size: tuple[int, int]) -> None:
    if 0 in size:
        raise CaptureError(f"{path}: the picture has zero size; replace it or remove its frame")
    if size[0] * size[1] > MAX_IMAGE_PIXELS:
        most = f"at most {MAX_IMAGE_PIXELS // 1_000_000} million pixels are read"
        raise CaptureError(
            f"{path}: the image is too large ({size[0]}x{size[1]}; {most}); scale down images, w, h and lenses alike"
        )


def _load(picture: Picture, stream: BinaryIO) -> None:
    """Decode all pixels, and refuse what Pillow fills in silence where a file ends early.

    Raises:
        Exception: of any kind, by decoders.
    """
    kind = picture.format
    if kind == "TIFF":
        _check_tiff(picture, stream)
    picture.load()
    if kind == "PNG":
        _check_png(stream)
    elif kind in ("JPEG", "MPO") and (picture.info.get("progressive") or _ends_gray(picture)):
        _check_jpeg(stream)


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass of an interlaced PNG, and the steps from one to the next."""


def _check_png(stream: BinaryIO) -> None:
    """Refuse a PNG of which a chunk is damaged, the end is missing, or rows are: their zlib stream may end early.

    Raises:
        ValueError: saying which.
    """
    stream.seek(8)
    kind, missing, inflater = b"", 0, zlib.decompressobj()
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", _exactly(stream, 8))
        body = _exactly(stream, length)
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(_exactly(stream, 4), "big"):
            raise ValueError(f"wrong checksum in its chunk {kind!r}")
        if kind == b"IHDR":
            missing = _png_bytes(body)
        while kind == b"IDAT" and body and missing > 0:
            missing -= len(inflater.decompress(body, 1 << 20))
            body = inflater.unconsumed_tail
    if missing > 0:
        raise ValueError("its rows are not all there")


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ValueError("it is cut short")
    return data


def _png_bytes(header: bytes) -> int:
    """Bytes of a PNG's pixels before compression: each row follows the number of its filter."""
    width, height, depth, color, *_, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    return total


def _ends_gray(picture: Picture) -> bool:
    """Whether the last pixel may be where libjpeg had no data left: it then gives mid gray, and says nothing."""
    width, height = picture.size
    corner = np.asarray(picture.crop((width - 1, height - 1, width, height)).convert("L"))
    # The color of neighbors reaches into that pixel, its brightness stays, but for rounding.
    return abs(int(corner[0, 0]) - 128) <= 3


def _check_jpeg(stream: BinaryIO) -> None:
    """Refuse a JPEG whose data end before its last pixel, by FFmpeg's decoder, which tells.

    Raises:
        ValueError: it does.
    """
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    stream.seek(0)
    try:
        decoder.decode(av.Packet(stream.read()))
    except av.error.InvalidDataError:
        raise ValueError("its data end before its last pixel") from None
    except av.error.FFmpegError:  # a kind of JPEG that FFmpeg does not know
        return


def _check_tiff(picture: Picture, stream: BinaryIO) -> None:
    """Refuse a TIFF whose strips reach beyond its end, on which libtiff would comment, or not to the last row.

    Raises:
        ValueError: saying which.
    """
    if all(tile.extents[3] < picture.height for tile in getattr(picture, "tile", ())):
        raise ValueError("its rows are not all there")
    size, tags = stream.seek(0, io.SEEK_END), getattr(picture, "tag_v2", {})
    for offsets, lengths in ((273, 279), (324, 325)):
        parts = zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)
        if any(offset + length > size for offset, length in parts):
            raise ValueError("it is cut short")


def _rgb(picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    if picture.mode.startswith("I"):
        return np.repeat((np.asarray(picture).astype(np.int64) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _gray(picture: Picture) -> UInt8[np.ndarray, "height width"] | Int[np.ndarray, "height width"]:
    return np.asarray(picture).astype(np.int64) if picture.mode.startswith("I") else np.array(picture.convert("L"))
