"""Defaults of a video: camera path, length and size, derived from the capture."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.options import Preset
from blocknerf.trajectory.capture_path import longest_path
from blocknerf.trajectory.flythrough import pinhole_focals, smooth_path
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.orbit import common_look_at, orbit
from blocknerf.trajectory.trajectory import Trajectory
from pipelines.training_log import training_downscale

MIN_SIDE, MAX_SIDE = 480, 640
"""Default bounds of the longer side, in pixels. A video may be larger than the training images, since renderings sample
no finer than these."""

MAX_ENLARGEMENT = 2.5
"""How much larger it may be: beyond, there is nothing more to see."""

PIXELS: dict[Preset, float] = {"draft": 16e6, "standard": 100e6, "fine": 500e6}
"""Pixel budget of a video of default length: minutes of rendering on the hardware a preset is meant for."""

CAMERA_SPEED = 8.0
"""Camera speed in m/s if the budget allows: a car in town."""

SECONDS = (4.0, 30.0)
"""Minimum and maximum of the default length."""

NONMETRIC_SECONDS = 12.0
"""Default length if the capture is not metric, so that no speed is known."""

UNORDERED_STEP = 0.5
"""Median step between images, relative to their distance from the object, above which they follow no path."""

FPS, MIN_DEFAULT_FPS = 24.0, 12.0
"""Default frame rate, and the lowest one to which the pixel budget reduces it."""


def video_timing(length: float, metric: bool, pixels: int, preset: Preset) -> tuple[int, float]:
    """Return the number of frames and the frame rate for a path of this length, within the pixel budget.

    >>> video_timing(80.0, True, 80_000, "draft"), video_timing(80.0, True, 320_000, "draft")
    ((200, 20.0), (50, 12.0))
    """
    wanted = min(max(length / CAMERA_SPEED, SECONDS[0]), SECONDS[1]) if metric else NONMETRIC_SECONDS
    affordable = max(48, int(PIXELS[preset] // pixels))
    count = min(round(wanted * FPS), affordable)
    return count, float(min(FPS, max(MIN_DEFAULT_FPS, round(count / wanted))))


def video_size(
    capture: Capture, folder: RunFolder, segment: str | None, width: int | None, height: int | None
) -> tuple[int, int]:
    """Return width and height: as requested, with the capture's aspect ratio, or as in training within bounds."""
    first = longest_path(capture.cameras(), capture.frames, segment).frames[0]
    intrinsics = capture.frames[first].intrinsics
    if width is not None or height is not None:
        return _with_aspect(intrinsics.width / intrinsics.height, width, height)
    side = max(intrinsics.width, intrinsics.height)
    trained = side / training_downscale(folder)
    factor = min(max(trained, min(MIN_SIDE, MAX_ENLARGEMENT * trained)), MAX_SIDE) / side
    return max(1, round(intrinsics.width * factor)), max(1, round(intrinsics.height * factor))


def default_path(
    capture: Capture,
    preset: Preset,
    size: tuple[int, int],
    keyframes: tuple[str, ...],
    segment: str | None,
    frames: int | None,
    seconds: float | None,
    fps: float | None,
) -> Trajectory:
    """Return a camera path along the capture or through some of its images.

    Images around one object that have no order, such as those of a synthetic scene, get a path around the object.
    """
    cameras, (width, height) = capture.cameras(), size
    target = None
    if keyframes:
        chosen = cameras[torch.tensor([capture.index(name) for name in keyframes])]
        length = float((chosen.centers[1:] - chosen.centers[:-1]).norm(dim=-1).sum())
    else:
        path = longest_path(cameras, capture.frames, segment)
        length, target = path.length, _orbit_target(cameras[torch.tensor(path.frames)])
    count, rate = _resolve_timing(video_timing(length, capture.is_metric, width * height, preset), frames, seconds, fps)
    if target is not None:
        followed = cameras[torch.tensor(path.frames)]
        focal = float(pinhole_focals(followed, width, height).median())
        return orbit(followed, target, focal=focal, frames=count, width=width, height=height, fps=rate)
    if not keyframes:
        return smooth_path(cameras, capture.frames, frames=count, width=width, height=height, fps=rate, segment=segment)
    focals = pinhole_focals(chosen, width, height)
    return through_keyframes(chosen.camera_to_world, focals, frames=count, width=width, height=height, fps=rate)


def _orbit_target(cameras: Cameras) -> Float[Tensor, "3"] | None:
    """Return the point that cameras without an order look at from around it; None for cameras along a path."""
    target = common_look_at(cameras)
    if target is None:
        return None
    steps = (cameras.centers[1:] - cameras.centers[:-1]).norm(dim=-1)
    distance = (cameras.centers - target).norm(dim=-1).median()
    return target if len(steps) and float(steps.median()) > UNORDERED_STEP * float(distance) else None


def _resolve_timing(
    default: tuple[int, float], frames: int | None, seconds: float | None, fps: float | None
) -> tuple[int, float]:
    """Return the number of frames and the frame rate; options override the default."""
    if frames is None and seconds is None:
        return default if fps is None else (max(1, round(default[0] / default[1] * fps)), fps)
    rate = FPS if fps is None else fps
    return (round((seconds or 0.0) * rate) if frames is None else frames), rate


def resample_path(path: Trajectory, fps: float | None, width: int | None, height: int | None) -> Trajectory:
    """Return a camera path with another size or frame rate. If only one side is given, the aspect ratio is kept."""
    if width is not None or height is not None:
        path = path.resized(*_with_aspect(path.width / path.height, width, height))
    return path if fps is None else replace(path, fps=fps)


def _with_aspect(aspect: float, width: int | None, height: int | None) -> tuple[int, int]:
    """Return width and height from at least one of them; the other one is at least one pixel."""
    if width is None:
        width = max(1, round((height or 0) * aspect))
    return width, max(1, round(width / aspect)) if height is None else height
