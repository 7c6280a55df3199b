"""The process that runs COLMAP: one stage of a job each time, with lines of progress on standard output.

COLMAP runs apart since it can end the interpreter, and since its global mapping cannot be interrupted.
`python -m blocknerf.sfm.worker STAGE FOLDER THREADS PARENT CPU_SECONDS`, started by `blocknerf.sfm.stages`.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pycolmap

from blocknerf.processes import end_with, limit_cpu
from blocknerf.sfm.job import DEFAULT_FOCAL_FACTOR, Job, read_job
from blocknerf.sfm.model import Model, write_model
from blocknerf.sfm.pairs import Pair, all_pairs, sequential_pairs, similar_pairs, spatial_pairs, unique_pairs
from blocknerf.sfm.work_folder import WorkFolder

T = TypeVar("T")
LENS_MODELS = {"simple_radial": "SIMPLE_RADIAL", "radial": "RADIAL", "opencv": "OPENCV"}
PAIRS_PER_CHUNK = 100
SAMPLED = 2000
"""Descriptors per image by which similar images are found."""
MIN_TRACK = 3
"""Images that must see a point for it to be kept; points in two images alone are often wrong."""
FULL_SIZE, MIN_SIZE = 1600, 400
"""Image size in pixels from which COLMAP's limits of errors hold, and the size below which they shrink no further."""
MAX_ERROR = 4.0
"""Largest distance of a match from its epipolar line, in pixels of a full-size image."""
MAX_POINT_ERROR = 2.0
"""Largest reprojection error of a point that is kept, in pixels."""
GROWTH = 1.4
"""Growth of a model after which all of it is adjusted."""
ADJUSTMENTS = 2, 20
"""Rounds and iterations of such an adjustment.

With COLMAP's own numbers, 1.1, 5 and 50, the first 17 of 75 drone images took 112 CPU seconds; with these, 27 take 60,
and all 75 are registered after 263, at 0.55 pixels.
"""
MAX_REPRODUCIBLE = 200
"""Up to this many images, mapping uses one thread: with several, sums of floating-point numbers in another order give
poses that differ by up to 8 cm on a street, and two threads save nothing there."""
MAX_PARAMETERS = 8
WARNING = 1
"""Level of COLMAP's log; lower ones say something about every image."""


def main(arguments: Sequence[str]) -> None:
    """Run one stage: features, matches, or an attempt such as incremental-0 or global-0."""
    stage, folder, threads, parent, cpu_seconds = arguments
    end_with(int(parent))
    limit_cpu(int(cpu_seconds))
    pycolmap.logging.minloglevel = WARNING
    work = WorkFolder(Path(folder))
    job = read_job(work.job)
    pycolmap.set_random_seed(job.seed)
    if stage == "features":
        find_features(job, work, int(threads))
    elif stage == "matches":
        match(job, work, int(threads))
    else:
        reconstruct(job, work, int(threads), stage)


def find_features(job: Job, work: WorkFolder, threads: int) -> None:
    """Find the features of all images that have none in the database yet; name the images that COLMAP cannot read.

    Images are entered first: otherwise their numbers, on which all later results depend, follow the order in which
    threads finish.
    """
    with pycolmap.Database.open(work.database) as database:
        if database.num_cameras() < len(job.cameras):
            _write_cameras(job, database)
        found = _with_features(database)
    total = len(job.images)
    for index in range(len(job.cameras)):
        missing = [image.name for image in job.images if image.camera == index and image.name not in found]
        reader = pycolmap.ImageReaderOptions()
        reader.existing_camera_id = index + 1
        if missing:
            pycolmap.import_images(work.database, work.images, image_names=missing, options=reader)
        for names in _chunks(missing, 2 * threads):
            _say(f"progress {len(found)} {total}")
            pycolmap.extract_features(
                work.database,
                work.images,
                image_names=names,
                reader_options=reader,
                extraction_options=_extraction(job, threads),
                device=pycolmap.Device.cpu,
            )
            found.update(names)
    with pycolmap.Database.open(work.database) as database:
        _write_priors(job, database)
        found = _with_features(database)
    for image in job.images:
        if image.name not in found:
            _say(f"unreadable {image.name}")


def match(job: Job, work: WorkFolder, threads: int) -> None:
    """Match the features of pairs of images and verify them geometrically, except for finished pairs."""
    with pycolmap.Database.open(work.database) as database:
        numbers = {image.name: image.image_id for image in database.read_all_images()}
        found = [numbers.get(image.name) for image in job.images]
        ids = {i: number for i, number in enumerate(found) if number is not None}
        chosen = [(a, b) for a, b in _choose_pairs(job, found, database) if a in ids and b in ids]
        pairs = [(a, b) for a, b in chosen if not database.exists_two_view_geometry(ids[a], ids[b])]
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job.seed
    verification.ransac.max_error = MAX_ERROR * _relative_size(job)
    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = threads
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = work.pairs
    done = len(chosen) - len(pairs)
    for chunk in _chunks(pairs, PAIRS_PER_CHUNK):
        _say(f"progress {done} {len(chosen)}")
        lines = [f"{job.images[first].name} {job.images[second].name}\n" for first, second in chunk]
        work.pairs.write_text("".join(lines), "utf-8")
        pycolmap.match_image_pairs(work.database, matching, pairing, verification, pycolmap.Device.cpu)
        done += len(chunk)


def reconstruct(job: Job, work: WorkFolder, threads: int, attempt: str) -> None:
    """Compute poses and points once, and write the largest model."""
    mapper, _, number = attempt.partition("-")
    threads = 1 if len(job.images) <= MAX_REPRODUCIBLE else threads
    with tempfile.TemporaryDirectory(prefix="attempt-", dir=work.path) as output:
        mapping = _map_incrementally if mapper == "incremental" else _map_globally
        models = mapping(job, work, Path(output), threads, int(number))
        models.sort(key=lambda model: (model.num_reg_images(), model.num_points3D()), reverse=True)
        if models and mapper != "incremental":
            models[0].extract_colors_for_all_images(work.images)
        write_model(_export(job, models[0], _sizes(models)) if models else None, work.model(attempt))


def _map_incrementally(
    job: Job, work: WorkFolder, output: Path, threads: int, number: int
) -> list[pycolmap.Reconstruction]:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = threads
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = job.seed + number
    options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
    options.ba_global_max_refinements, options.ba_global_max_num_iterations = ADJUSTMENTS
    options.min_model_size = min(10, max(3, len(job.images) // 3))
    options.max_num_models = 10
    options.use_prior_position = sum(image.position is not None for image in job.images) >= 3
    options.use_robust_loss_on_prior_position = True
    scale = _relative_size(job)
    options.mapper.init_max_error *= scale
    options.mapper.filter_max_reproj_error *= scale
    options.mapper.abs_pose_max_error *= scale
    if number:  # Images that move along their line of sight start with small angles.
        options.mapper.init_max_forward_motion = 1.0
        options.mapper.init_min_tri_angle = 16.0 / 2**number
        options.mapper.init_min_num_inliers = 50
    registered = 2

    def next_image() -> None:
        nonlocal registered
        registered += 1
        _say(f"progress {min(registered, len(job.images))} {len(job.images)}")

    models = pycolmap.incremental_mapping(work.database, work.images, output, options, next_image_callback=next_image)
    return list(models.values())


def _map_globally(job: Job, work: WorkFolder, output: Path, threads: int, number: int) -> list[pycolmap.Reconstruction]:
    # The global mapper writes into the database, which the other attempts need as it is.
    database = output / "database.db"
    shutil.copyfile(work.database, database)
    options = pycolmap.GlobalPipelineOptions()
    seed = job.seed + number
    options.num_threads = options.mapper.num_threads = threads
    options.random_seed = options.mapper.random_seed = seed
    options.mapper.rotation_averaging.random_seed = options.mapper.global_positioning.random_seed = seed
    (output / "models").mkdir()
    return list(pycolmap.global_mapping(database, work.images, output / "models", options).values())


def _sizes(models: Sequence[pycolmap.Reconstruction]) -> tuple[int, ...]:
    """Return the images of the largest model, and of the others those that it lacks, where there are any."""
    names = [{model.image(number).name for number in model.reg_image_ids()} for model in models]
    others = [len(found - names[0]) for found in names[1:]]
    return len(names[0]), *sorted((count for count in others if count), reverse=True)


def _export(job: Job, model: pycolmap.Reconstruction, sizes: tuple[int, ...]) -> Model:
    numbers = {image.name: i for i, image in enumerate(job.images)}
    images = sorted((model.image(number) for number in model.reg_image_ids()), key=lambda image: numbers[image.name])
    points = [
        point
        for _, point in sorted(model.points3D.items())
        if point.track.length() >= min(MIN_TRACK, len(images)) and point.error <= MAX_POINT_ERROR
    ]
    parameters = np.zeros((len(job.cameras), MAX_PARAMETERS))
    for number, lens in model.cameras.items():
        parameters[number - 1, : len(lens.params)] = lens.params
    return Model(
        names=tuple(image.name for image in images),
        camera_to_world=np.stack([image.cam_from_world().inverse().matrix() for image in images]),
        cameras=np.array([image.camera_id - 1 for image in images], dtype=np.int64),
        lens_parameters=parameters,
        points=np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        colors=np.array([point.color for point in points], dtype=np.uint8).reshape(-1, 3),
        error=float(model.compute_mean_reprojection_error()),
        sizes=sizes,
    )


def _relative_size(job: Job) -> float:
    """Return the size of the images relative to those for which COLMAP's limits of errors are made, at most 1."""
    size = max(max(camera.width, camera.height) for camera in job.cameras)
    return min(1.0, max(size, MIN_SIZE) / FULL_SIZE)


def _write_cameras(job: Job, database: Any) -> None:
    for number, camera in enumerate(job.cameras, start=1):
        focal = camera.focal or DEFAULT_FOCAL_FACTOR * max(camera.width, camera.height)
        model = LENS_MODELS[job.lens]
        lens = pycolmap.Camera.create_from_model_name(number, model, focal, camera.width, camera.height)
        lens.has_prior_focal_length = camera.focal is not None
        if not database.exists_camera(number):
            database.write_camera(lens, use_camera_id=True)


def _write_priors(job: Job, database: Any) -> None:
    """Replace the positions that COLMAP read from the files by those of the job."""
    positions = {image.name: image for image in job.images if image.position is not None}
    priors = {prior.corr_data_id.id: prior for prior in database.read_all_pose_priors()}
    database.clear_pose_priors()
    for image in database.read_all_images():
        if image.name in positions:
            entry = positions[image.name]
            horizontal, vertical = entry.error
            prior = pycolmap.PosePrior(
                corr_data_id=image.data_id,
                position=np.array(entry.position),
                position_covariance=np.diag([horizontal**2, horizontal**2, vertical**2]),
                coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN,
            )
            if image.image_id in priors:
                prior.gravity = priors[image.image_id].gravity
            database.write_pose_prior(prior)


def _with_features(database: Any) -> set[str]:
    return {image.name for image in database.read_all_images() if database.exists_descriptors(image.image_id)}


def _extraction(job: Job, threads: int) -> pycolmap.FeatureExtractionOptions:
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = job.feature_image_size
    options.num_threads = threads
    options.sift.max_num_features = job.features
    return options


def _choose_pairs(job: Job, numbers: Sequence[int | None], database: Any) -> list[Pair]:
    """Return the pairs to match; `numbers` has each image's number in the database, None if COLMAP cannot read it."""
    if job.matching == "exhaustive":
        return all_pairs(len(job.images))
    descriptors = [
        np.asarray(database.read_descriptors(number).data)[:SAMPLED] if number else np.zeros((0, 128), np.uint8)
        for number in numbers
    ]
    return unique_pairs(
        [
            *sequential_pairs(len(job.images)),
            *spatial_pairs([image.position for image in job.images]),
            *similar_pairs(descriptors, seed=job.seed),
        ]
    )


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
