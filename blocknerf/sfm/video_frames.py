"""Frames of a video for structure from motion: sharp ones, a fixed amount of image motion apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from blocknerf.errors import CaptureError
from blocknerf.files import format_json, write_atomic
from blocknerf.images import write_image
from blocknerf.json_file import read_json
from blocknerf.sfm.exif import PhotoRecord
from blocknerf.sfm.image_folder import Photo
from blocknerf.sfm.stages import LOGGER
from blocknerf.values import first_line

ANALYSIS_WIDTH = 320
"""Width at which sharpness and motion are measured, in pixels."""
STEP = 0.02
"""Image motion between chosen frames, as a fraction of the width."""
MIN_MOTION = 3 * STEP
"""Motion in the whole video below which the camera does not move."""
MAX_TRACKS = 200
MIN_FOUND = 0.25
"""Fraction of corners that must be found again for the motion to be known."""
LOST = STEP
"""Motion where it is unknown: the next frame is taken."""
LOG_FRAMES = 500
OTHER_FOLDER_HINT = "choose another output folder"
FOLDER, INDEX = "frames", "frames.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMeasure:
    """What one frame of a video looks like."""

    time: float
    """Seconds from the start."""
    sharpness: float
    """Variance of the Laplacian."""
    motion: float
    """Median displacement of features since the frame before, as a fraction of the width."""


def extract_frames(video: Path, work: Path, max_frames: int, *, finished: bool = False) -> list[Photo]:
    """Write the chosen frames of a video into `work/frames`, and return them; finished work is not done again.

    `finished` says that the folder holds a result, and its frames must not be replaced.

    Raises:
        CaptureError: the file cannot be decoded, the camera does not move, or the result is that of another video.
    """
    folder, index = work / FOLDER, work / INDEX
    status = video.stat()
    key = {"size": status.st_size, "modified": status.st_mtime_ns, "max_frames": max_frames}
    if index.is_file():
        written = read_json(index, "list of frames", CaptureError)
        if written.get("video") == key and all((folder / frame["name"]).is_file() for frame in written["frames"]):
            return [_photo(frame) for frame in written["frames"]]
    if finished:
        raise CaptureError(f"{work}: holds poses of another video or other options; {OTHER_FOLDER_HINT}")
    measures = measure(video)
    chosen = choose_frames(measures, max_frames)
    motion = sum(item.motion for item in measures)
    if len(measures) < 3 or motion < MIN_MOTION or len(chosen) < 3:
        moved = f"its {len(measures)} frames move by {motion:.1%} of the width in all"
        raise CaptureError(f"{video}: the camera does not move ({moved}); give a video from a moving camera")
    LOGGER.info(f"{video.name}: {len(chosen)} of {len(measures)} frames chosen by motion and sharpness")
    frames = []
    for i, image in _decode(video):
        if i in chosen:
            name = f"{i:06d}.jpg"
            write_image(folder / name, image)
            height, width = image.shape[:2]
            frames.append({"name": name, "time": measures[i].time, "width": width, "height": height})
    write_atomic(index, format_json({"video": key, "frames": frames}))
    return [_photo(frame) for frame in frames]


def choose_frames(measures: Sequence[FrameMeasure], max_frames: int, step: float = STEP) -> set[int]:
    """Return the indices of the sharpest frame of each part of a video in which the image moves by `step`.

    Frames of a camera that does not move fall into one part. The step grows until at most `max_frames` are chosen.
    """
    travelled = np.cumsum([item.motion for item in measures]) if measures else np.zeros(0)
    sharpness = np.array([item.sharpness for item in measures])
    while True:
        parts = np.floor(travelled / step).astype(np.int64)
        first = np.flatnonzero(np.diff(parts, prepend=-1))
        if len(first) <= max_frames:
            break
        step *= max(1.05, len(first) / max_frames)
    ends = [*first[1:], len(measures)]
    return {int(start + np.argmax(sharpness[start:end])) for start, end in zip(first, ends, strict=True)}


def measure(video: Path) -> list[FrameMeasure]:
    """Return sharpness and motion of every frame.

    Raises:
        CaptureError: the file cannot be decoded.
    """
    import cv2

    measures: list[FrameMeasure] = []
    before: UInt8[np.ndarray, "height width"] | None = None
    with _opened(video) as (container, stream):
        for frame in container.decode(stream):
            gray = frame.to_ndarray(format="gray")
            scale = min(1.0, ANALYSIS_WIDTH / gray.shape[1])
            size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
            small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
            sharpness = float(cv2.Laplacian(small, cv2.CV_64F).var())
            motion = 0.0 if before is None else image_motion(before, small)
            time = frame.time if frame.time is not None else float(len(measures))
            measures.append(FrameMeasure(time=time, sharpness=sharpness, motion=motion))
            before = small
            if len(measures) % LOG_FRAMES == 0:
                total = f" of {stream.frames}" if stream.frames else ""
                LOGGER.info(f"measuring motion: {len(measures)}{total} frames")
    return measures


def image_motion(first: UInt8[np.ndarray, "height width"], second: UInt8[np.ndarray, "height width"]) -> float:
    """Return the median displacement of corners between two images, as a fraction of the width.

    0 if the first image shows no corners; `LOST` if most of them are not found again, as at a cut.
    """
    import cv2

    corners = cv2.goodFeaturesToTrack(first, MAX_TRACKS, 0.01, 7)
    if corners is None:
        return 0.0
    # None: no first guess of the positions; the types of OpenCV do not know it.
    moved, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None)  # type: ignore[call-overload]
    shifts = np.linalg.norm((moved - corners).reshape(-1, 2), axis=1)[found.ravel() == 1]
    return float(np.median(shifts)) / first.shape[1] if len(shifts) > MIN_FOUND * len(corners) else LOST


def _decode(video: Path) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """Yield the frames as they are shown, turned as the file says: phones store upright videos lying on the side."""
    with _opened(video) as (container, stream):
        for i, frame in enumerate(container.decode(stream)):
            turns = round(frame.rotation / 90) % 4
            yield i, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


@contextmanager
def _opened(video: Path) -> Iterator[tuple[Any, Any]]:
    import av

    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise CaptureError(f"{video}: holds no video; give another file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as fault:
        raise CaptureError(f"{video}: this video cannot be decoded ({first_line(fault)}); convert it to MP4") from None


def _photo(frame: dict[str, Any]) -> Photo:
    record = PhotoRecord(width=frame["width"], height=frame["height"], timestamp=frame["time"])
    return Photo(path=frame["name"], record=record)
