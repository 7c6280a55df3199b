"""Where a film goes by default, how long it is and how large: all of it derived from the capture."""

from dataclasses import replace

import torch

from blocknerf.capture.capture import Capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.quality import Preset
from blocknerf.trajectory.capture_path import longest_path
from blocknerf.trajectory.flythrough import pinhole_focals, smooth_path
from blocknerf.trajectory.keyframes import through_keyframes
from blocknerf.trajectory.trajectory import Trajectory
from pipelines.training_log import training_downscale

MAX_SIDE = 640
"""Pixels of a film's longer side, where nothing else is asked for."""

PIXELS: dict[Preset, float] = {"draft": 4e6, "standard": 100e6, "fine": 500e6}
"""Pixels of a whole film, where its length is not asked for: minutes of work on the machine a preset is meant for."""

CAMERA_SPEED = 8.0
"""Metres a second of a film, where it can be afforded: a car in town."""

SECONDS = (4.0, 30.0)
"""Shortest and longest film, where its length is not asked for."""

NONMETRIC_SECONDS = 12.0
"""Length of a film where the capture's unit is not the metre, so that no speed is known."""

FPS, SLOWEST_FPS = 24.0, 12.0


def video_timing(length: float, metric: bool, pixels: int, preset: Preset) -> tuple[int, float]:
    """How many pictures a film of that length gets, and how many a second: calm where it can be afforded.

    >>> video_timing(80.0, True, 20_000, "draft"), video_timing(80.0, True, 80_000, "draft")
    ((200, 20.0), (50, 12.0))
    """
    wanted = min(max(length / CAMERA_SPEED, SECONDS[0]), SECONDS[1]) if metric else NONMETRIC_SECONDS
    affordable = max(48, int(PIXELS[preset] // pixels))
    count = min(round(wanted * FPS), affordable)
    return count, float(min(FPS, max(SLOWEST_FPS, round(count / wanted))))


def video_size(
    capture: Capture, folder: RunFolder, segment: str | None, width: int | None, height: int | None
) -> tuple[int, int]:
    """Width and height: what is asked for, in the capture's shape, else as it was trained."""
    first = longest_path(capture.cameras(), capture.frames, segment).frames[0]
    lens = capture.frames[first].intrinsics
    if width is not None or height is not None:
        return _in_shape(lens.width / lens.height, width, height)
    factor = min(1.0 / training_downscale(folder), MAX_SIDE / max(lens.width, lens.height))
    return max(1, round(lens.width * factor)), max(1, round(lens.height * factor))


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
    """A film along the capture's way or through some of its photographs."""
    cameras, (width, height) = capture.cameras(), size
    if keyframes:
        chosen = cameras[torch.tensor([capture.index(name) for name in keyframes])]
        way = float((chosen.centers[1:] - chosen.centers[:-1]).norm(dim=-1).sum())
    else:
        way = longest_path(cameras, capture.frames, segment).length
    count, rate = _pace(video_timing(way, capture.is_metric, width * height, preset), frames, seconds, fps)
    if not keyframes:
        return smooth_path(cameras, capture.frames, frames=count, width=width, height=height, fps=rate, segment=segment)
    focals = pinhole_focals(chosen, width, height)
    return through_keyframes(chosen.camera_to_world, focals, frames=count, width=width, height=height, fps=rate)


def _pace(usual: tuple[int, float], frames: int | None, seconds: float | None, fps: float | None) -> tuple[int, float]:
    """How many pictures, and how many a second, where some of it is asked for."""
    if frames is None and seconds is None:
        return (usual[0], usual[1]) if fps is None else (max(1, round(usual[0] / usual[1] * fps)), fps)
    rate = FPS if fps is None else fps
    return (round((seconds or 0.0) * rate) if frames is None else frames), rate


def resample_path(film: Trajectory, fps: float | None, width: int | None, height: int | None) -> Trajectory:
    """A given film at another size or pace; one of width and height gives the other."""
    if width is not None or height is not None:
        film = film.resized(*_in_shape(film.width / film.height, width, height))
    return film if fps is None else replace(film, fps=fps)


def _in_shape(aspect: float, width: int | None, height: int | None) -> tuple[int, int]:
    """Both sides, of which at least one is given; the other is at least one pixel."""
    wide = max(1, round((height or 0) * aspect)) if width is None else width
    return wide, max(1, round(wide / aspect)) if height is None else height
