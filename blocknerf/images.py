"""Pictures and masks on disk, read whole or refused, and their scaling by area."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from blocknerf.errors import CaptureError
from blocknerf.files import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
else:
    Picture = Any  # Pillow loads with the first picture, not with the library.

JPEG_QUALITY = 92


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of a picture as stored, from its header alone.

    Raises:
        CaptureError: it is missing or not a picture.
    """
    with _open(path) as picture:
        return picture.size


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
    with _open(path) as picture:
        check_size(path, picture.size, size)
        pixels = _rgb(picture, path)
    return resize_area(pixels, *scaled_size(pixels.shape[1], pixels.shape[0], downscale))


WHOLE = 1.0 - 1e-4
"""Shares of a pixel above it are all of it, but for rounding."""


def read_mask(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Bool[np.ndarray, "height width"]:
    """Where all that a pixel covers is white in a mask (see `read_share`).

    Raises:
        CaptureError: it is missing, not a picture, broken, or of another size.
    """
    return read_share(path, downscale, size) > WHOLE


def read_share(
    path: Path | str, downscale: int = 1, size: tuple[int, int] | None = None
) -> Float[np.ndarray, "height width"]:
    """How much of what each pixel covers is white in a mask: above half of its brightest value.

    So 0/1 and 0/255 both work. `size` is the width and height of its photograph.

    Raises:
        CaptureError: it is missing, not a picture, broken, or of another size.
    """
    with _open(path) as picture:
        check_size(path, picture.size, size)
        gray = _gray(picture, path)
    white = gray > gray.max() / 2
    width, height = scaled_size(gray.shape[1], gray.shape[0], downscale)
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


def scaled_size(width: int, height: int, downscale: int) -> tuple[int, int]:
    """Size of a picture downscaled by a whole number, rounded down as `Cameras.scaled(1 / downscale)` does.

    >>> scaled_size(397, 120, 2)
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


def _open(path: Path | str) -> Picture:
    """An opened picture whose header has been read.

    Raises:
        CaptureError: it is missing or not a picture.
    """
    from PIL import Image

    try:
        if Path(path).stat().st_size == 0:
            raise CaptureError(f"{path}: the file is empty (zero size); replace it or remove its frame")
        picture = Image.open(path)
        if 0 in picture.size:
            raise CaptureError(f"{path}: the picture has zero size; replace it or remove its frame")
        return picture
    except IsADirectoryError:
        raise CaptureError(f"{path}: not a readable picture (it is a folder); correct the path") from None
    except FileNotFoundError:
        raise CaptureError(f"{path}: this picture does not exist; restore it or remove its frame") from None
    except (OSError, ValueError, SyntaxError) as fault:
        raise CaptureError(
            f"{path}: not a readable picture ({_first_line(fault)}); replace it or remove its frame"
        ) from None


def _rgb(picture: Picture, path: Path | str) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    try:
        if picture.mode.startswith("I"):
            return np.repeat((np.asarray(picture).astype(np.int64) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as fault:
        raise CaptureError(
            f"{path}: the picture is broken ({_first_line(fault)}); replace it or remove its frame"
        ) from None


def _gray(picture: Picture, path: Path | str) -> UInt8[np.ndarray, "height width"] | Int[np.ndarray, "height width"]:
    try:
        return np.asarray(picture).astype(np.int64) if picture.mode.startswith("I") else np.array(picture.convert("L"))
    except (OSError, ValueError, SyntaxError) as fault:
        raise CaptureError(
            f"{path}: the mask is broken ({_first_line(fault)}); replace it or remove its frame"
        ) from None


def _first_line(fault: Exception) -> str:
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__
