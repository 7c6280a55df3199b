"""MP4 video files (H.264), written frame by frame in bounded memory."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from blocknerf.errors import RunError
from blocknerf.files import atomic_path

MAX_ENCODER_SIDE = 16_384
"""Maximum side in pixels that the encoder, x264, supports."""
MIN_ENCODER_FPS, MAX_ENCODER_FPS = 0.01, 1000.0
"""Frame rates for which MP4 can store frame times as integers."""


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], *, fps: float = 24.0) -> int:
    """Write RGB frames as an MP4 file that all browsers play; return the number of frames.

    H.264 in yuv420p with the index at the front, so that playback starts before the file is loaded. This pixel format
    needs even sizes: an odd last row or column is repeated. The file is written atomically.

    Raises:
        RunError: there are no frames, their sizes differ, size or rate is not supported, or the disk is full.
    """
    import imageio.v3

    if not MIN_ENCODER_FPS <= fps <= MAX_ENCODER_FPS:
        allowed = f"{MIN_ENCODER_FPS} to {MAX_ENCODER_FPS:g}"
        raise RunError(f"{path}: {fps} frames/s cannot be encoded; give {allowed}")
    count = 0
    size: tuple[int, ...] | None = None
    with atomic_path(path) as part:
        options = {"movflags": "+faststart"}
        # The declared signature of imopen lacks the options that this plugin passes to FFmpeg.
        writer = imageio.v3.imopen(part, "w", plugin="pyav", container="mp4", options=options)  # type: ignore[call-overload]
        with writer as video:
            for frame in frames:
                if size is None:
                    size = frame.shape
                    _check_size(path, size)
                    video.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
                if frame.shape != size:
                    raise RunError(
                        f"{path}: frame {count} is {_size(frame.shape)}, not {_size(size)}; give all frames one size"
                    )
                video.write_frame(pad_to_even(frame))
                count += 1
            if count == 0:
                raise RunError(f"{path}: there are no frames to write; render some first")
    return count


def pad_to_even(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Repeat the last row or column of an image if the number of rows or columns is odd.

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
