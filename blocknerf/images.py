"""Read, check, write and resize images and masks; damaged files are rejected."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from blocknerf.errors import CaptureError
from blocknerf.files import atomic_path, open_regular
from blocknerf.image_damage import load_completely
from blocknerf.values import first_line

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
else:
    PillowImage = Any  # Pillow is imported with the first image, not with this module.

JPEG_QUALITY = 92
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
"""Supported formats, whatever the suffix, by Pillow's names; JPEG includes MPO.

Cameras and photo software write these. Pillow's other decoders do not run on untrusted files: the one for EPS starts
Ghostscript.
"""
MAX_IMAGE_PIXELS = 160_000_000
"""Maximum image size; the largest drone sensor has 151 million pixels, and decoding takes up to 18 bytes per pixel."""
MAX_FILE_BYTES = 1 << 30
"""Maximum file size: that many pixels with three 16-bit channels take 0.9 GiB uncompressed."""


MAX_PALETTE_LABELS = 64
"""A mask with a palette of more shades of gray than this is not of labels."""


def image_size(path: Path | str) -> tuple[int, int]:
    """Return width and height of an image as stored; only its header is read.

    Raises:
        CaptureError: the image is missing, too large, or not in one of `FORMATS`.
    """
    with _open(path) as (image, _):
        return image.size


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the check of an image finds, apart from errors; only all images together tell whether it is a problem."""

    orientation: int
    """EXIF orientation; 1 is upright, 5 to 8 swap width and height."""
    brightest: int | None
    """Largest value of an image with more than 8 bits; None for others."""


def check_image(path: Path | str, size: tuple[int, int] | None = None) -> ImageFacts:
    """Raise if `read_image` or `read_mask` would reject an image or mask; faster than reading it.

    All pixels are decoded. A JPEG is decoded at an eighth of its size, which still reads all its data.

    Raises:
        CaptureError: the file is missing, not an image, broken, truncated, or of another size.
    """
    with _open(path) as (image, stream):
        check_size(path, image.size, size)
        orientation = _orientation(image)
        image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
        load_completely(image, stream)
        brightest = int(np.asarray(image).max()) if image.mode.startswith("I") else None
        return ImageFacts(orientation=orientation, brightest=brightest)


def read_image(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Return an RGB image as stored (EXIF orientation is ignored, since poses refer to stored pixels).

    Gray images get three equal channels, transparent images a white background (the convention of synthetic
    scenes), and 16 bits are reduced to 8. `downscale` averages by area to floor(size / downscale).
    `size` is the width and height according to its camera.

    Raises:
        CaptureError: the file is missing, not an image, broken, or of another size.
    """
    with _open(path) as (image, stream):
        check_size(path, image.size, size)
        load_completely(image, stream)
        pixels = _rgb(image)
    return resize_area(pixels, *downscaled_size(pixels.shape[1], pixels.shape[0], downscale))


FULL_COVERAGE = 1.0 - 1e-4
"""Coverage above this is full coverage, up to rounding."""


def read_mask(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Bool[np.ndarray, "height width"]:
    """Return where the area under a pixel is entirely white in a mask (see `read_mask_coverage`).

    Raises:
        CaptureError: the file is missing, not an image, broken, or of another size.
    """
    return read_mask_coverage(path, downscale, size) > FULL_COVERAGE


def read_mask_coverage(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Float[np.ndarray, "height width"]:
    """Return the fraction of each pixel that is white in a mask (see `white_above`).

    `size` is the width and height of its image.

    Raises:
        CaptureError: the file is missing, not an image, broken, or of another size.
    """
    levels = read_mask_levels(path, size)
    width, height = downscaled_size(levels.shape[1], levels.shape[0], downscale)
    return resize_area(white_above(levels).astype(np.float32), width, height)


def white_above(levels: Int[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the white pixels of a mask: above half of its brightest value, so that 0/1 and 0/255 both work.

    >>> white_above(np.array([[0, 1, 1]])).tolist()
    [[False, True, True]]
    """
    return levels > levels.max() / 2


def read_mask_levels(path: Path | str, size: tuple[int, int] | None = None) -> Int[np.ndarray, "height width"]:
    """Return the gray values of a mask.

    An alpha channel counts instead of the colors if it varies and they do not, and the indices of a palette if its
    colors are hard to tell apart or more than two.

    Raises:
        CaptureError: the file is missing, not an image, broken, or of another size.
    """
    with _open(path) as (image, stream):
        check_size(path, image.size, size)
        load_completely(image, stream)
        if image.mode == "P" and "transparency" not in image.info:
            return _palette_levels(image)
        gray = _gray(image)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            alpha = np.array(image.convert("RGBA"))[..., 3]
            if np.ptp(alpha) and (not np.ptp(gray) or len(np.unique(gray)) > 2):
                return alpha.astype(np.int64)
        return gray.astype(np.int64)


def _palette_levels(image: PillowImage) -> Int[np.ndarray, "height width"]:
    """Return the gray values of a palette's two colors if one is dark, else the indices."""
    indices, gray = np.array(image).astype(np.int64), _gray(image).astype(np.int64)
    is_binary = len(np.unique(indices)) <= 2 and gray.min() <= gray.max() / 2
    is_gray_ramp = len(np.unique(gray)) > MAX_PALETTE_LABELS
    return gray if is_binary or is_gray_ramp else indices


def write_image(
    path: Path | str, image: UInt8[np.ndarray, "height width 3"] | UInt8[np.ndarray, "height width"]
) -> None:
    """Write a PNG or JPEG (by the suffix) atomically; the same pixels produce the same bytes."""
    from PIL import Image

    with atomic_path(path) as part:
        options: dict[str, Any] = (
            {"quality": JPEG_QUALITY, "subsampling": 0} if part.suffix.lower() in (".jpg", ".jpeg") else {}
        )
        Image.fromarray(np.ascontiguousarray(image)).save(part, **options)


def check_size(path: Path | str, size: tuple[int, int], expected: tuple[int, int] | None) -> None:
    """Raise if the width and height of an image or mask differ from the expected ones; None accepts any."""
    if expected is not None and size != expected:
        sizes = f"{size[0]}x{size[1]} but its camera says {expected[0]}x{expected[1]}"
        with _open(path) as (image, _):
            orientation = _orientation(image)
        if orientation > 1 and size == expected[::-1]:
            raise CaptureError(
                f"{path}: the image is stored as {size[0]}x{size[1]} and shown as {expected[0]}x{expected[1]} by its "
                f"EXIF orientation {orientation}, which is ignored; rotate the pixels and remove the tag"
            )
        raise CaptureError(f"{path}: the image is {sizes}; rescale the image or correct w, h and the focal length")


def downscaled_size(width: int, height: int, downscale: int) -> tuple[int, int]:
    """Return the size of an image downscaled by an integer, rounded down as in `Cameras.scaled(1 / downscale)`.

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
    """Shrink an image; each pixel is the mean of the area it covers."""
    if image.shape[:2] == (height, width):
        return image
    import cv2

    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def to_uint8(image: Float[Tensor, "*shape"] | Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Convert display values 0..1 to bytes, clipped and rounded.

    >>> to_uint8(torch.tensor([-1.0, 0.5, 2.0]))
    array([  0, 128, 255], dtype=uint8)
    """
    if isinstance(image, Tensor):
        # Converted before it leaves the GPU: a quarter of the bytes to copy.
        return (image.detach().clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def to_float(image: UInt8[np.ndarray, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert bytes to display values 0..1."""
    return torch.from_numpy(np.ascontiguousarray(image)).float() / 255.0


_ORIENTATION_TAG = 0x0112
_OPEN_LOCK = threading.Lock()
"""Held while an image is opened, since warning filters and Pillow's size limit are global and changed meanwhile."""
_MAGIC_BYTES = {
    b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"8BPS": "PSD", b"GIF8": "GIF",
    b"v/1\x01": "OpenEXR", b"\x00\x00\x00\x0cjP": "JPEG 2000", b"\x00\x00\x00\x0cJXL": "JPEG XL",
    **{b"P%d" % number: "Netpbm" for number in range(1, 8)},
}  # fmt: skip
"""Magic bytes of unsupported files, for the message."""


@contextmanager
def _open(path: Path | str) -> Iterator[tuple[PillowImage, BinaryIO]]:
    """Yield an image with its header read, and its file; any error inside becomes a one-line CaptureError.

    Raises:
        CaptureError: the file is missing, empty, too large, not in one of `FORMATS`, or broken.
    """
    try:
        with open_regular(path, "image", CaptureError) as (stream, size):
            if size == 0:
                raise CaptureError(f"{path}: the file is empty (zero size); replace it or remove its frame")
            with _one_line_errors(path, "not a readable image"):
                if size > MAX_FILE_BYTES:
                    raise ValueError(f"{size >> 20:,} MiB; the limit is {MAX_FILE_BYTES >> 20:,} MiB")
                image = _read_header(stream)
            _check_area(path, image.size)
            if image.mode == "F":
                raise CaptureError(f"{path}: the image has floating-point values; convert it to 8 or 16 bits")
            with _one_line_errors(path, "the image is broken"):
                yield image, stream
    except FileNotFoundError:
        raise CaptureError(f"{path}: this image does not exist; restore it or remove its frame") from None


@contextmanager
def _one_line_errors(path: Path | str, what: str) -> Iterator[None]:
    try:
        yield
    except CaptureError:
        raise
    except Exception as fault:  # Decoders raise errors of any type.
        raise CaptureError(f"{path}: {what} ({first_line(fault)}); replace it or remove its frame") from None


def _read_header(stream: BinaryIO) -> PillowImage:
    """Open an image without decoding its pixels."""
    from PIL import Image, UnidentifiedImageError

    with _OPEN_LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Replaced by ours. Not None: other threads decode meanwhile, and Pillow computes with the limit.
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 1 << 80
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"{_format_name(stream)}, not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    # In other formats the warnings concern unused metadata; the directory of a TIFF locates its pixels.
    messages = [str(warning.message) for warning in caught]
    if image.format == "TIFF" and any(re.search("truncated|corrupt", message, re.I) for message in messages):
        raise ValueError("its directory is damaged")
    return image


def _format_name(stream: BinaryIO) -> str:
    """Return the name of an unsupported format, from the first bytes of the file."""
    stream.seek(0)
    head = stream.read(12)
    if head[4:8] == b"ftyp":  # a family of formats: HEIC and AVIF images, MP4 videos
        return head[8:].decode("ascii", "replace").strip().upper()
    return next((name for start, name in _MAGIC_BYTES.items() if head.startswith(start)), "an unknown format")


def _check_area(path: Path | str, size: tuple[int, int]) -> None:
    if 0 in size:
        raise CaptureError(f"{path}: the image has zero size; replace it or remove its frame")
    if size[0] * size[1] > MAX_IMAGE_PIXELS:
        limit = f"the limit is {MAX_IMAGE_PIXELS // 1_000_000} million pixels"
        raise CaptureError(
            f"{path}: the image is too large ({size[0]}x{size[1]}; {limit}); scale down images, w, h and intrinsics"
        )


def _orientation(image: PillowImage) -> int:
    """Return the EXIF orientation of an image; 1 without one, or if it is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Metadata of any kind may be damaged; the pixels are checked separately.
        return 1
    return orientation if orientation in range(1, 9) else 1


def _rgb(image: PillowImage) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    if image.mode.startswith("I"):
        return np.repeat((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _gray(image: PillowImage) -> UInt8[np.ndarray, "height width"] | Int[np.ndarray, "height width"]:
    return np.asarray(image).astype(np.int64) if image.mode.startswith("I") else np.array(image.convert("L"))
