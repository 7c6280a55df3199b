"""A task for COLMAP in a process of its own: images, cameras and settings, in a file that both processes read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from blocknerf.files import write_atomic
from blocknerf.sfm.options import Lens

SEED = 0
DEFAULT_FOCAL_FACTOR = 1.2
"""Focal length assumed for an unknown lens, as a multiple of the longer side; COLMAP's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCamera:
    """Images that share one lens."""

    width: int
    height: int
    focal: float | None
    """Focal length in pixels as recorded, where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobImage:
    """An image to register."""

    name: str
    """Name of its link in the work folder."""
    camera: int
    """Index of its camera."""
    position: tuple[float, float, float] | None = None
    """East, north, up in meters by GPS."""
    error: tuple[float, float] = (5.0, 10.0)
    """Expected horizontal and vertical error of the position, in meters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that the result depends on; a result for another job is computed again."""

    images: tuple[JobImage, ...]
    """In the order of time, as far as it is known."""
    cameras: tuple[JobCamera, ...]
    files: tuple[tuple[str, int, int], ...]
    """Path relative to the folder of the images, size and modification time (ns) of each image."""
    matching: Literal["exhaustive", "sequential"]
    features: int
    feature_image_size: int
    lens: Lens
    seed: int = SEED


def write_job(job: Job, path: Path) -> None:
    """Write a job as JSON."""
    write_atomic(path, msgspec.json.encode(job))


def read_job(path: Path) -> Job:
    """Read a job that `write_job` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Job)


def same_job(job: Job, path: Path) -> bool:
    """Return whether a file holds this job."""
    try:
        return read_job(path) == job
    except (OSError, msgspec.MsgspecError):
        return False
