"""Poses that structure from motion computes for real photos and a video, compared with known poses.

    python -m tests.benchmarks.structure_from_motion [--sets lund caliterra video] [--twice] [--data ../shared/data]

`gps` is the residual to the GPS positions in meters. `position` (meters) and `rotation` (degrees) are rms differences
from the known poses after a similarity alignment of the positions and a common rotation. The known poses are those of
another reconstruction for the photos, and of GPS/IMU with a bundle adjustment for the video, so they have errors of
their own. `again` is the largest difference of any pose entry in a second computation (with --twice).
"""

import argparse
import json
import re
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame
from blocknerf.capture.transforms import read_transforms
from blocknerf.sfm.alignment import fit_similarity
from pipelines.console import print_table, table
from pipelines.poses import poses

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """A set of images, and where their known poses are."""

    images: str
    known: str
    key: Callable[[Frame], str | None]
    """Name of a known frame as the computation names it; None for frames of other cameras."""
    registered: float
    """Share of registered images that is expected."""
    error: float | None
    """Reprojection error in pixels that is expected at most; None where none was asked for."""
    gps: float | None
    """GPS residual in meters that is expected at most."""


def _file_name(frame: Frame) -> str:
    return Path(frame.image).name


def _video_name(frame: Frame) -> str | None:
    """Return the name of the video frame: the video shows the left color camera, frame by frame."""
    number = re.fullmatch(r"images/cam2_(\d+)\.jpg", frame.image)
    return None if number is None else f"{int(number[1]):06d}.jpg"


SETS = {
    "lund": Set(images="photos_lund", known="street_lund", key=_file_name, registered=1.0, error=None, gps=6.0),
    "caliterra": Set(
        images="photos_caliterra", known="drone_caliterra", key=_file_name, registered=1.0, error=0.8, gps=None
    ),
    "video": Set(
        images="video_street.mp4",
        known="street_kitti0005",
        key=_video_name,
        registered=0.95,
        error=None,
        gps=None,
    ),
}


def compare(found: Capture, known: Capture, key: Callable[[Frame], str | None]) -> tuple[int, float, float]:
    """Return the number of common frames, and the rms differences of their positions and rotations."""
    references = {name: frame for frame in known.frames if (name := key(frame)) is not None}
    pairs = [(frame, references[frame.name]) for frame in found.frames if frame.name in references]
    a, b = (np.array([pair[i].camera_to_world for pair in pairs]) for i in (0, 1))
    matrix = fit_similarity(a[:, :, 3], b[:, :, 3])
    assert matrix is not None
    distances = np.linalg.norm(a[:, :, 3] @ matrix[:, :3].T + matrix[:, 3] - b[:, :, 3], axis=1)
    left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", b[:, :, :3], a[:, :, :3]))
    common = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    traces = np.einsum("nij,ij->n", np.einsum("nij,nkj->nik", b[:, :, :3], a[:, :, :3]), common)
    angles = np.degrees(np.arccos(np.clip((traces - 1.0) / 2.0, -1.0, 1.0)))
    return len(pairs), _rms(distances), _rms(angles)


def measure(name: str, data: Path, folder: Path, *, twice: bool) -> dict[str, float | str | None]:
    """Compute the poses of one set and return a row of the table."""
    item = SETS[name]
    start, before = time.monotonic(), _child_seconds()
    capture = poses(data / item.images, out=folder / name)
    seconds, wall = _child_seconds() - before, time.monotonic() - start
    common, position, rotation = compare(capture, read_transforms(data / item.known), item.key)
    again = None
    if twice:
        second = poses(data / item.images, out=folder / f"{name}_again")
        first_poses, second_poses = (
            np.array([frame.camera_to_world for frame in frames]) for frames in (capture.frames, second.frames)
        )
        same = first_poses.shape == second_poses.shape
        again = float(np.abs(first_poses - second_poses).max()) if same else float("inf")
    registered, total, error = _first(r"(\d+) of (\d+) images registered, reprojection error ([\d.]+) px", capture)
    gps = _first(r"aligned to GPS: ([\d.]+) m rms", capture)
    share, residual = int(registered) / int(total), float(gps[0]) if gps else None
    passed = share >= item.registered and (item.error is None or float(error) <= item.error)
    passed = passed and (item.gps is None or (residual is not None and residual <= item.gps))
    return {
        "set": name,
        "registered": f"{registered} of {total}",
        "error": float(error),
        "gps": residual,
        "common": common,
        "position": position,
        "rotation": rotation,
        "again": again,
        "cpu": seconds,
        "wall": wall,
        "passed": "yes" if passed else "no",
    }


def _first(pattern: str, capture: Capture) -> tuple[str, ...]:
    matches = [match.groups() for note in capture.notes if (match := re.search(pattern, note))]
    return matches[0] if matches else ()


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Print the table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, arguments.data, Path(folder), twice=arguments.twice) for name in arguments.sets]
    print_table(table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
