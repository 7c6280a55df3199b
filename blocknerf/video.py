"""Films as MP4 files (H.264), written picture by picture in bounded memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from blocknerf.errors import RunError
from blocknerf.files import atomic_path

MAX_ENCODER_SIDE = 16_384
"""Pixels of the longest side that the encoder, x264, takes."""
SLOWEST, FASTEST = 0.01, 1000.0
"""Frames a second for which the times of frames stay whole numbers that MP4 can hold."""


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], *, fps: float = 24.0) -> int:
    """Write RGB pictures as an MP4 that every browser plays; gives their number.

    H.264 in yuv420p, the index in front so that it starts before it is loaded. That pixel format wants even
    sizes: an odd last row or column is repeated. Whole or not at all.

    Raises:
        RunError: there are no pictures, sizes differ, the encoder takes no such size or rate, or the disk is full.
    """
    import imageio.v3

    if not SLOWEST <= fps <= FASTEST:
        raise RunError(f"{path}: {fps} frames a second cannot be encoded; give {SLOWEST} to {FASTEST:g}")
    count = 0
    size: tuple[int, ...] | None = None
    with atomic_path(path) as part:
        options = {"movflags": "+faststart"}
        # The declared signature of imopen forgets the options that this plugin passes on to FFmpeg.
        opened = imageio.v3.imopen(part, "w", plugin="pyav", container="mp4", options=options)  # type: ignore[call-overload]
        with opened as film:
            for frame in frames:
                if size is None:
                    size = frame.shape
                    _check_size(path, size)
                    film.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
                if frame.shape != size:
                    raise RunError(
                        f"{path}: picture {count} is {_size(frame.shape)}, not {_size(size)}; give all one size"
                    )
                film.write_frame(pad_to_even(frame))
                count += 1
            if count == 0:
                raise RunError(f"{path}: there are no pictures to write; render some first")
    return count


def pad_to_even(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """The picture with its last row or column repeated where their number is odd.

    >>> pad_to_even(np.zeros((3, 4, 3), np.uint8)).shape
    (4, 4, 3)
    """
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    if max(shape) > MAX_ENCODER_SIDE:
        raise RunError(
            f"{path}: frames of {_size(shape)} cannot be encoded; give at most {MAX_ENCODER_SIDE} pixels a side"
        )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
