"""Poses of photos or frames: a capture computed by structure from motion, resumable from its work folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.errors import CaptureError
from blocknerf.kernels.threads import available_cores
from blocknerf.sfm.alignment import Alignment, align_to_gps
from blocknerf.sfm.attempts import Candidate, best_model
from blocknerf.sfm.image_folder import Photo, read_photos
from blocknerf.sfm.job import Job, JobCamera, JobImage, same_job, write_job
from blocknerf.sfm.model import Model
from blocknerf.sfm.options import SfmOptions
from blocknerf.sfm.pairs import MAX_EXHAUSTIVE
from blocknerf.sfm.positions import GpsPositions, gps_positions
from blocknerf.sfm.result import Source, build_capture, viewer_up
from blocknerf.sfm.stages import LOGGER, check_installed, run_stage
from blocknerf.sfm.upright import up_of_cameras
from blocknerf.sfm.video_frames import FOLDER, OTHER_FOLDER_HINT, extract_frames
from blocknerf.sfm.work_folder import WorkFolder

MIN_IMAGES = 3
"""Two images fix neither a scale between them nor the lens."""
MANY_FEATURES, FEW_FEATURES = 8192, 4096
"""Features per image. Matching takes quadratic time in them."""
MAX_FOR_MANY = 45
"""Up to this many images, which have 1,000 pairs, take many features."""
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
CAPTURE = "capture.json"


def poses_of_photos(
    folder: Path, work: Path, options: SfmOptions, *, keep_going: bool = False, threads: int | None = None
) -> Capture:
    """Return the capture of a folder of photos; see `estimate_poses`.

    Raises:
        CaptureError: there are no usable images, or as in `estimate_poses`.
    """
    options.check()
    photos, broken = read_photos(folder, keep_going=keep_going)
    source = Source(name=folder, image_dir=folder, left_out=tuple(broken))
    return estimate_poses(source, photos, work, options, threads)


def poses_of_video(video: Path, work: Path, options: SfmOptions, *, threads: int | None = None) -> Capture:
    """Return the capture of the chosen frames of a video, which are written into `work`; see `estimate_poses`.

    Raises:
        CaptureError: the video cannot be decoded or its camera does not move, or as in `estimate_poses`.
    """
    options.check()
    check_installed()
    photos = extract_frames(video, work, options.max_frames, finished=(work / CAPTURE).is_file())
    source = Source(name=video, image_dir=work / FOLDER, sequential=True, segment=video.stem)
    return estimate_poses(source, photos, work, options, threads)


def is_video(path: Path) -> bool:
    """Return whether a file is named like a video."""
    return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES


def estimate_poses(
    source: Source, photos: Sequence[Photo], work: Path, options: SfmOptions, threads: int | None = None
) -> Capture:
    """Return the capture of photos or frames: poses, lenses and sparse points, computed by COLMAP.

    An interrupted computation resumes from its files in the folder `work`, or starts over if the images or options
    have changed. A finished one is read from there. With
    GPS positions the world is east, north, up in meters; otherwise z is up and the unit arbitrary. Images with an EXIF
    rotation stay as they are stored: their poses are rolled.

    Raises:
        CaptureError: there are too few images, too few of them could be registered, pycolmap is missing, or the folder
            holds the result of other images or options.
    """
    if len(photos) < MIN_IMAGES:
        number = f"{len(photos)} usable image{'' if len(photos) == 1 else 's'}"
        raise CaptureError(
            f"{source.name}: {number}, but poses need at least {MIN_IMAGES} that overlap; take more images"
        )
    gps = gps_positions([photo.record for photo in photos])
    job = make_job(source, photos, gps, options)
    files, path = WorkFolder(work / "sfm"), work / CAPTURE
    is_same = same_job(job, files.job)
    if path.is_file():
        if not is_same:
            raise CaptureError(f"{path}: holds poses of other images or options; {OTHER_FOLDER_HINT}")
        return replace(read_capture(path), image_dir=source.image_dir.resolve())
    check_installed()
    if not is_same:
        _start(job, source, files)
    num_threads = min(threads or available_cores(), available_cores())
    best = _compute(job, photos, gps, files, num_threads)
    registered = 0 if best is None else len(best.model.names)
    if best is None or registered < options.min_registered * len(photos):
        raise CaptureError(_refusal(source, best, len(photos), options))
    capture = build_capture(source, photos, gps, job, best, work)
    write_capture(capture, path)
    files.clear_computation()
    return capture


def make_job(source: Source, photos: Sequence[Photo], gps: GpsPositions | None, options: SfmOptions) -> Job:
    """Return the job of photos; images of one camera, size and focal length share a lens."""
    lenses: dict[tuple[object, ...], int] = {}
    cameras: list[JobCamera] = []
    images = []
    for i, photo in enumerate(photos):
        record = photo.record
        key = (record.camera, record.width, record.height, None if record.focal is None else round(record.focal))
        if key not in lenses:
            lenses[key] = len(cameras)
            cameras.append(JobCamera(width=record.width, height=record.height, focal=record.focal))
        name = f"{i:06d}{Path(photo.path).suffix.lower()}"
        images.append(
            JobImage(name=name, camera=lenses[key])
            if gps is None
            else JobImage(name=name, camera=lenses[key], position=gps.positions[i], error=gps.errors[i])
        )
    matching = options.matching
    if matching == "auto":
        matching = "sequential" if source.sequential or len(photos) > MAX_EXHAUSTIVE else "exhaustive"
    status = [(source.image_dir / photo.path).stat() for photo in photos]
    return Job(
        images=tuple(images),
        cameras=tuple(cameras),
        files=tuple((photo.path, item.st_size, item.st_mtime_ns) for photo, item in zip(photos, status, strict=True)),
        matching=matching,
        features=options.features or (MANY_FEATURES if len(photos) <= MAX_FOR_MANY else FEW_FEATURES),
        feature_image_size=options.feature_image_size,
        lens=options.lens,
    )


def _start(job: Job, source: Source, files: WorkFolder) -> None:
    """Begin a computation in an empty folder."""
    files.clear()
    files.images.mkdir(parents=True, exist_ok=True)
    for image, (path, _, _) in zip(job.images, job.files, strict=True):
        (files.images / image.name).symlink_to((source.image_dir / path).resolve())
    write_job(job, files.job)


def _compute(
    job: Job, photos: Sequence[Photo], gps: GpsPositions | None, files: WorkFolder, threads: int
) -> Candidate | None:
    for stage, title in (("features", "finding features"), ("matches", "matching images")):
        if not files.finished(stage).exists():
            for line in run_stage(stage, title, files, threads):
                name = line.removeprefix("unreadable ")
                LOGGER.info(f"COLMAP cannot read {job.files[int(name.partition('.')[0])][0]}; it is left out")
            files.finished(stage).touch()
    numbers = {image.name: i for i, image in enumerate(job.images)}

    def align(model: Model) -> Alignment | None:
        return _align(model, [numbers[name] for name in model.names], photos, gps)

    return best_model(len(photos), files, threads, align)


def _align(model: Model, numbers: Sequence[int], photos: Sequence[Photo], gps: GpsPositions | None) -> Alignment | None:
    if gps is None:
        return None
    known = [(i, number) for i, number in enumerate(numbers) if gps.positions[number] is not None]
    up = up_of_cameras(model.camera_to_world, viewer_up(photos, numbers))
    targets = np.array([gps.positions[number] for _, number in known], dtype=np.float64).reshape(-1, 3)
    errors = np.array([gps.errors[number][0] for _, number in known], dtype=np.float64)
    return align_to_gps(model.centers[[i for i, _ in known]], targets, errors, up)


def _refusal(source: Source, best: Candidate | None, total: int, options: SfmOptions) -> str:
    advice = "take images that overlap by two thirds, with texture, from moving positions"
    if best is None:
        return f"{source.name}: no two of the {total} images overlap enough to compute poses; {advice}"
    sizes = best.model.sizes
    others = f" and the others form models of {', '.join(map(str, sizes[1:]))}" if len(sizes) > 1 else ""
    least = f"the least is {options.min_registered:.0%}"
    return (
        f"{source.name}: only {len(best.model.names)} of {total} images could be registered{others}; {least}; "
        f"{advice}, or lower --min-registered"
    )
