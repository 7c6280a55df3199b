"""Import of posed images into a run's `capture.json`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.capture import Capture, Frame, read_capture, write_capture
from blocknerf.capture.capture import image_files
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import has_images, relocate
from blocknerf.errors import CaptureError, RunError
from blocknerf.images import ImageFacts, check_image
from blocknerf.importers.importer import DEFAULT_OPTIONS, ImportOptions
from blocknerf.importers.recognition import load_source
from blocknerf.kernels.threads import available_cores
from blocknerf.sfm.stages import LOGGER
from pipelines.console import log, printing, progress, skip_if_exists

OTHER_FOLDER_HINT = "choose another output folder"
DECODING_BYTES = 2 << 30
"""Memory for images that are decoded in parallel, at about eight bytes per pixel; one always fits."""


def ingest(capture: Path, run: Path, *, source: ImportOptions = DEFAULT_OPTIONS) -> Capture:
    """Check a capture and write it into a run folder. The images are not copied.

    Args:
        capture: Photos, a video, a transforms.json, a COLMAP model, an export of another program, or a driving log:
            a file or its folder. docs/captures.md lists all kinds.
        run: Run folder; created if it does not exist.
        source: Options of the import.

    Returns:
        The capture.

    Raises:
        CaptureError: The capture cannot be used; nothing is written.
        RunError: The folder contains another run or other files.
    """
    source.check()
    folder = RunFolder(run)
    path = folder.capture
    if not path.exists():
        _check_free(run)
    with printing(LOGGER):
        new = load_source(capture, source, folder.imported)
    if path.exists():
        existing = read_capture(path)
        if source.keep_going:
            new = _without_broken(new, existing)
        if not has_images(existing) and _same(replace(existing, image_dir=new.image_dir), new):
            relocate(RunFolder(run), new)
            log(f"{path}: the run or the capture was moved; now refers to {new.image_dir}")
        elif not _same(existing, new):
            contents = f"{_counts(existing)} in {existing.image_dir}"
            raise RunError(f"{run}: contains another run, of {contents}; {OTHER_FOLDER_HINT}")
        skip_if_exists(path)
        return new
    new = check_pixels(new, keep_going=source.keep_going)
    write_capture(new, path)
    for line in summary(new):
        log(line)
    return new


def check_pixels(capture: Capture, *, keep_going: bool = False) -> Capture:
    """Decode every image and mask of a capture once, so that broken files are found before training.

    Args:
        capture: The capture.
        keep_going: Leave out frames with broken files instead of raising.

    Returns:
        The capture, without frames that were left out.

    Raises:
        CaptureError: Files are broken; the message counts them and names the first ones.
    """
    largest = max(frame.intrinsics.width * frame.intrinsics.height for frame in capture.frames)
    num_threads = max(1, min(available_cores(), DECODING_BYTES // (8 * largest)))
    with ThreadPoolExecutor(num_threads) as pool:
        checks = pool.map(lambda frame: _check_frame(capture, frame), capture.frames)
        results = list(progress(checks, "checking images", len(capture)))
    broken = [(i, result) for i, result in enumerate(results) if isinstance(result, CaptureError)]
    if broken and (not keep_going or len(broken) == len(capture)):
        raise _broken_images(capture, [error for _, error in broken])
    facts = [result for result in results if isinstance(result, ImageFacts)]
    _check_depth(capture, facts)
    notes = _rotation_notes(facts)
    if broken:
        notes.append(f"warning: {_count(len(broken), 'frame')} left out, first: {broken[0][1]}")
    kept = sorted(set(range(len(capture))) - {i for i, _ in broken})
    return replace(capture.select(kept) if broken else capture, notes=(*capture.notes, *notes))


def _check_frame(capture: Capture, frame: Frame) -> ImageFacts | CaptureError:
    """Return what the check of a frame's image found, or the error of its image or a mask."""
    try:
        facts = [check_image(path, frame.intrinsics.size) for path in image_files(capture, frame)]
    except CaptureError as error:
        return error
    return facts[0]


def _broken_images(capture: Capture, errors: Sequence[CaptureError]) -> CaptureError:
    if len(errors) == 1:
        return errors[0]
    shown = "; ".join(str(error).partition("; ")[0] for error in errors[:3])
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return CaptureError(
        f"{len(errors)} of {len(capture)} frames have broken images: {shown}{more}; replace them, or give --keep-going"
    )


def _check_depth(capture: Capture, facts: Sequence[ImageFacts]) -> None:
    """Raise if images of 16 bits use only 10, 12 or 14 of them: they would train almost black.

    Raises:
        CaptureError: Names the number of bits and the factor.
    """
    values = [fact.brightest for fact in facts if fact.brightest is not None]
    bits = max(values, default=0).bit_length()
    if values and 8 < bits <= 14:
        raise CaptureError(
            f"{capture.image_dir}: images of 16 bits hold values of {bits} bits, at most {max(values):,}; "
            f"multiply them by {2 ** (16 - bits)}, or convert them to 8 bits"
        )


def _rotation_notes(facts: Sequence[ImageFacts]) -> list[str]:
    rotated = sum(fact.orientation > 1 for fact in facts)
    if not rotated:
        return []
    images = _count(rotated, "image")
    return [f"warning: {images} with an EXIF rotation, which is ignored; poses and lenses must fit the stored pixels"]


def summary(capture: Capture) -> list[str]:
    """Return lines that describe a capture, so that a user can check the import."""
    masks = sum(frame.mask is not None for frame in capture.frames)
    sky_masks = sum(frame.sky_mask is not None for frame in capture.frames)
    parts = [_counts(capture)]
    parts += [f"{masks} masks"] if masks else []
    parts += [f"{sky_masks} sky masks"] if sky_masks else []
    parts += ["sparse points"] if capture.sparse_points else []
    parts += ["lidar points"] if capture.lidar_points else []
    parts += [f"{len(capture.lidar_sweeps)} LiDAR sweeps"] if capture.lidar_sweeps else []
    return [", ".join(parts), *capture.notes]


def _counts(capture: Capture) -> str:
    cameras, segments = len({frame.camera for frame in capture.frames}), len(capture.segments)
    size = f"{2 * capture.extent:.3g} {'m' if capture.is_metric else 'units'} across"
    counts = ((len(capture), "image"), (cameras, "camera"), (segments, "segment"))
    return ", ".join([*(_count(number, noun) for number, noun in counts), size])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _same(first: Capture, second: Capture) -> bool:
    """Return whether two captures are equal up to notes and the rounding of poses, which differs between machines."""
    if len(first) != len(second):
        return False
    poses, others = (np.array([frame.camera_to_world for frame in capture.frames]) for capture in (first, second))
    frames = tuple(
        replace(frame, camera_to_world=reference.camera_to_world)
        for frame, reference in zip(second.frames, first.frames, strict=True)
    )
    return replace(second, frames=frames, notes=first.notes) == first and bool(
        np.allclose(poses, others, rtol=1e-12, atol=1e-9)
    )


def _without_broken(capture: Capture, existing: Capture) -> Capture:
    """Return the capture without the frames that an earlier import left out as broken."""
    names = {frame.name for frame in existing.frames}
    kept = [i for i, frame in enumerate(capture.frames) if frame.name in names]
    return capture.select(kept) if kept else capture


def _check_free(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file, not a folder; {OTHER_FOLDER_HINT}")
    imported = RunFolder(run).imported.name  # left by an import that was stopped
    if run.is_dir() and any(not entry.name.startswith(".") and entry.name != imported for entry in run.iterdir()):
        raise RunError(f"{run}: contains files but no run; {OTHER_FOLDER_HINT}")
