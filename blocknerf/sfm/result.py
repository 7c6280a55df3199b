"""The capture of a model: frames, lenses and points in the world, and notes on how they were found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.files import write_atomic
from blocknerf.sfm.attempts import Candidate
from blocknerf.sfm.image_folder import Photo
from blocknerf.sfm.job import Job
from blocknerf.sfm.model import Model
from blocknerf.sfm.positions import GpsPositions
from blocknerf.sfm.upright import upright_transform
from blocknerf.similarity import Rows, to_rows, transform_pose

PAUSE_SECONDS = 1800.0
"""Time without a photo after which a new segment begins: light and traffic have changed."""
FAR = 50.0
"""Distance of points from the cameras beyond which they are dropped, relative to the median."""
POINTS = "points.ply"
"""File of the sparse points in the work folder."""
LEFT_OUT = "left_out.txt"
"""File that lists images without a pose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the images come from."""

    name: Path
    """What the user gave."""
    image_dir: Path
    sequential: bool = False
    """Whether neighbors in the list overlap, as in a video."""
    segment: str = "photos"
    """Name of segments of images that are in no subfolder."""
    left_out: tuple[str, ...] = ()
    """Images that could not be read, one line each."""


def viewer_up(photos: Sequence[Photo], numbers: Sequence[int]) -> Float64[np.ndarray, "images 3"]:
    """Return what is up for a viewer of some photos, in camera axes."""
    return np.array([photos[number].record.up for number in numbers], dtype=np.float64)


def build_capture(
    source: Source, photos: Sequence[Photo], gps: GpsPositions | None, job: Job, best: Candidate, work: Path
) -> Capture:
    """Write the points and the list of images without a pose, and return the capture."""
    model = best.model
    index = {image.name: i for i, image in enumerate(job.images)}
    numbers = [index[name] for name in model.names]
    if best.alignment is not None:
        transform, found_ground = best.alignment.transform, True
    else:
        transform, found_ground = upright_transform(model.camera_to_world, viewer_up(photos, numbers), model.points)
    write_ply(_cloud(model, transform), work / POINTS)
    registered = {*numbers}
    missing = [f"{photo.path}: not registered" for i, photo in enumerate(photos) if i not in registered]
    left_out = [*source.left_out, *missing]
    if left_out:
        write_atomic(work / LEFT_OUT, "".join(f"{line}\n" for line in left_out))
    else:
        (work / LEFT_OUT).unlink(missing_ok=True)
    segments = segment_names(photos, source.segment)
    lenses = {camera: to_intrinsics(job, model, camera) for camera in sorted({*model.cameras.tolist()})}
    return Capture(
        image_dir=source.image_dir.resolve(),
        points_dir=work.resolve(),
        frames=tuple(
            _frame(photos[number], pose, lenses[lens], segments[number], transform)
            for number, pose, lens in zip(numbers, model.camera_to_world, model.cameras.tolist(), strict=True)
        ),
        sparse_points=POINTS,
        is_metric=best.alignment is not None,
        geo_origin=None if best.alignment is None or gps is None else gps.origin,
        source=f"structure from motion of {source.name}",
        notes=tuple(_notes(source, photos, job, best, lenses, len(left_out), found_ground)),
    )


def _frame(photo: Photo, pose: np.ndarray, lens: Intrinsics, segment: str, transform: Rows) -> Frame:
    record = photo.record
    return Frame(
        name=photo.path,
        image=photo.path,
        intrinsics=lens,
        camera_to_world=transform_pose(to_rows(pose), transform),
        segment=segment,
        camera=f"{record.camera or 'camera'} {record.width}x{record.height}",
        timestamp=record.timestamp,
        exposure=record.exposure,
        gps=None if record.gps is None or record.gps[2] is None else (record.gps[0], record.gps[1], record.gps[2]),
    )


def to_intrinsics(job: Job, model: Model, camera: int) -> Intrinsics:
    """Return a lens of COLMAP as OpenCV's; pixel centers are at 0.5 in both."""
    values, size = model.lens_parameters[camera].tolist(), job.cameras[camera]
    p1 = p2 = 0.0
    if job.lens == "opencv":
        fx, fy, cx, cy, k1, k2, p1, p2 = values
    else:
        fx, cx, cy, k1, k2 = values[:5]  # k2 of a simple radial lens is a zero that fills up
        fy = fx
    distortion = (k1, k2, p1, p2, 0.0, 0.0)
    return Intrinsics(
        width=size.width,
        height=size.height,
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        model=CameraModel.OPENCV if any(distortion) else CameraModel.PINHOLE,
        distortion=distortion,
    )


def segment_names(photos: Sequence[Photo], default: str) -> list[str]:
    """Return the segment of each photo: its folder, and its part of it where there are long pauses."""
    parts: Counter[str] = Counter()
    last: dict[str, float | None] = {}
    names = []
    for photo in photos:
        folder, time = photo.path.rpartition("/")[0] or default, photo.record.timestamp
        before = last.get(folder)
        if time is not None and before is not None and time - before > PAUSE_SECONDS:
            parts[folder] += 1
        last[folder] = time
        names.append((folder, parts[folder]))
    return [f"{folder}_{part + 1}" if parts[folder] else folder for folder, part in names]


def _cloud(model: Model, transform: Rows) -> PointCloud:
    """Return the points in the world, without the few that triangulation put far away."""
    distances = np.linalg.norm(model.points - np.median(model.centers, axis=0), axis=1)
    near = distances <= FAR * max(float(np.median(distances)), 1e-12) if len(distances) else np.zeros(0, bool)
    matrix = np.array(transform)
    positions = model.points[near] @ matrix[:, :3].T + matrix[:, 3]
    return PointCloud(positions=positions.astype(np.float32), colors=model.colors[near])


def _notes(
    source: Source,
    photos: Sequence[Photo],
    job: Job,
    best: Candidate,
    lenses: Mapping[int, Intrinsics],
    left_out: int,
    found_ground: bool,
) -> list[str]:
    """Return what was found and decided, one line each."""
    model = best.model
    mapper = best.attempt.partition("-")[0]
    registered = f"{len(model.names)} of {len(photos)} images registered"
    accuracy = f"reprojection error {model.error:.2f} px, {len(model.points):,} points"
    notes = [f"poses by COLMAP ({mapper} mapping): {registered}, {accuracy}"]
    for camera, lens in lenses.items():
        focal = job.cameras[camera].focal
        recorded = "" if focal is None else f" (EXIF: {focal:.0f} px)"
        notes.append(f"lens of {lens.width}x{lens.height} images: focal length {lens.fx:.0f} px{recorded}")
    if best.alignment is not None:
        outliers = int((~best.alignment.inliers).sum())
        without = f", {outliers} outliers ignored" if outliers else ""
        notes.append(f"aligned to GPS: {best.alignment.rms:.1f} m rms{without}; the world is east, north, up in meters")
    else:
        ground = "the plane of the ground" if found_ground else "the cameras"
        notes.append(f"no usable GPS: up is taken from {ground}, and the unit of length is arbitrary")
    if len(model.sizes) > 1:
        sizes = ", ".join(map(str, model.sizes))
        notes.append(f"the images form separate models of {sizes} images, without a connection; the largest is used")
    rotated = sum(photo.record.orientation not in (1, 2) for photo in photos)
    if rotated:
        notes.append(f"{rotated} images carry an EXIF rotation; their poses refer to the pixels as stored")
    if left_out:
        notes.append(f"images left out: {left_out}, listed in {LEFT_OUT}")
    return notes
