"""Import of posed images into a run's `capture.json`."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.capture import Capture, read_capture, write_capture
from blocknerf.capture.capture import image_files
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import has_images, relocate
from blocknerf.errors import RunError
from blocknerf.images import check_image
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from blocknerf.kernels.threads import available_cores
from blocknerf.sfm.stages import LOGGER
from pipelines.console import log, printing, progress, skip_if_exists

OTHER_FOLDER_HINT = "choose another output folder"
DEFAULT_OPTIONS = ImportOptions()
DECODING_BYTES = 2 << 30
"""Memory for images that are decoded in parallel, at about eight bytes per pixel; one always fits."""


def ingest(capture: Path, run: Path, *, source: ImportOptions = DEFAULT_OPTIONS) -> Capture:
    """Check a capture and write it into a run folder. The images are not copied.

    Args:
        capture: A transforms.json (nerfstudio, instant-ngp), a capture.json, or a folder that contains one.
        run: Run folder; created if it does not exist.
        source: Options of the import.

    Returns:
        The capture.

    Raises:
        CaptureError: The capture cannot be used; nothing is written.
        RunError: The folder contains another run or other files.
    """
    folder = RunFolder(run)
    path = folder.capture
    if not path.exists():
        _check_free(run)
    with printing(LOGGER):
        new = load_source(capture, source, folder.imported)
    if path.exists():
        existing = read_capture(path)
        if not has_images(existing) and _same(replace(existing, image_dir=new.image_dir), new):
            relocate(RunFolder(run), new)
            log(f"{path}: the run or the capture was moved; now refers to {new.image_dir}")
        elif not _same(existing, new):
            contents = f"{_counts(existing)} in {existing.image_dir}"
            raise RunError(f"{run}: contains another run, of {contents}; {OTHER_FOLDER_HINT}")
        skip_if_exists(path)
        return new
    check_pixels(new)
    write_capture(new, path)
    for line in summary(new):
        log(line)
    return new


def check_pixels(capture: Capture) -> None:
    """Decode every image and mask of a capture once, so that broken files are found before training.

    Raises:
        CaptureError: A file is broken; the message names the first one.
    """
    files = dict.fromkeys(
        (path, frame.intrinsics.size) for frame in capture.frames for path in image_files(capture, frame)
    )
    largest = max(width * height for _, (width, height) in files)
    num_threads = max(1, min(available_cores(), DECODING_BYTES // (8 * largest)))
    with ThreadPoolExecutor(num_threads) as pool:
        checks = pool.map(lambda file: check_image(*file), files)
        deque(progress(checks, "checking images", len(files)), maxlen=0)


def summary(capture: Capture) -> list[str]:
    """Return lines that describe a capture, so that a user can check the import."""
    masks = sum(frame.mask is not None for frame in capture.frames)
    sky_masks = sum(frame.sky_mask is not None for frame in capture.frames)
    parts = [_counts(capture)]
    parts += [f"{masks} masks"] if masks else []
    parts += [f"{sky_masks} sky masks"] if sky_masks else []
    parts += ["sparse points"] if capture.sparse_points else []
    parts += ["lidar points"] if capture.lidar_points else []
    return [", ".join(parts), *_warnings(capture)]


def _counts(capture: Capture) -> str:
    cameras, segments = len({frame.camera for frame in capture.frames}), len(capture.segments)
    size = f"{2 * capture.extent:.3g} {'m' if capture.is_metric else 'units'} across"
    counts = ((len(capture), "image"), (cameras, "camera"), (segments, "segment"))
    return ", ".join([*(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts), size])


def _warnings(capture: Capture) -> list[str]:
    """Return a warning if the mean up direction of the cameras is far from z: the world is probably not z-up."""
    rotations = np.array([frame.camera_to_world for frame in capture.frames])[:, :, :3]
    up, forward = -rotations[:, :, 1].mean(axis=0), rotations[:, :, 2].mean(axis=0)
    # Cameras that look down (drones) have no useful up direction.
    if np.linalg.norm(up) > 0.7 and up[2] < 0.3 and forward[2] > -0.7:
        vector = ", ".join(f"{number:.2f}" for number in up)
        return [f"warning: the cameras' mean up direction is ({vector}), but +z should be up; rotate poses and points"]
    return []


def _same(first: Capture, second: Capture) -> bool:
    """Return whether two captures are equal up to rounding of poses, which differs between machines."""
    if len(first) != len(second):
        return False
    poses, others = (np.array([frame.camera_to_world for frame in capture.frames]) for capture in (first, second))
    frames = tuple(
        replace(frame, camera_to_world=reference.camera_to_world)
        for frame, reference in zip(second.frames, first.frames, strict=True)
    )
    return replace(second, frames=frames) == first and bool(np.allclose(poses, others, rtol=1e-12, atol=1e-9))


def _check_free(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file, not a folder; {OTHER_FOLDER_HINT}")
    imported = RunFolder(run).imported.name  # left by an import that was stopped
    if run.is_dir() and any(not entry.name.startswith(".") and entry.name != imported for entry in run.iterdir()):
        raise RunError(f"{run}: contains files but no run; {OTHER_FOLDER_HINT}")
