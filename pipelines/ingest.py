"""From somebody's posed photographs to a run's `capture.json`."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from blocknerf.capture import Capture, check_files, read_capture, read_transforms, write_capture
from blocknerf.capture.capture import CAPTURE_FORMAT
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import has_images, relocate
from blocknerf.errors import CaptureError, RunError
from blocknerf.files import read_json
from blocknerf.images import check_image
from blocknerf.kernels.threads import available_cores
from pipelines.console import log, progress, skip_if_exists

OTHER_FOLDER_HINT = "choose another output folder"
FORMAT_NAME = CAPTURE_FORMAT.split("/")[0]
DECODING_BYTES = 2 << 30
"""Memory for images that are checked at once, each of which takes about eight bytes a pixel; one always fits."""


def ingest(capture: Path, run: Path) -> Capture:
    """Check a capture and write it into a run folder; the photographs stay where they are.

    Args:
        capture: A `transforms.json` (nerfstudio, instant-ngp), a `capture.json`, or a folder that holds one.
        run: The run folder, made where it does not exist.

    Raises:
        CaptureError: The capture cannot be used; nothing is written.
        RunError: The folder holds another run or other files.
    """
    found = load_capture(capture)
    product = RunFolder(run).capture
    if product.exists():
        held = read_capture(product)
        if not has_images(held) and _same(replace(held, image_dir=found.image_dir), found):
            relocate(RunFolder(run), found)
            log(f"{product}: the run or the capture was moved; refers to {found.image_dir} now")
        elif not _same(held, found):
            raise RunError(f"{run}: holds another run, of {_described(held)} in {held.image_dir}; {OTHER_FOLDER_HINT}")
        skip_if_exists(product)
        return found
    _check_free(run)
    check_pixels(found)
    write_capture(found, product)
    for line in summary(found):
        log(line)
    return found


def load_capture(path: Path) -> Capture:
    """The capture in a file or folder, by what the file says it is.

    Raises:
        CaptureError: There is none, or it cannot be used.
    """
    if not path.exists():
        raise CaptureError(f"{path}: does not exist; give a transforms.json or its folder")
    file = path
    if path.is_dir():
        candidates = (path / "transforms.json", path / "capture.json")
        file = next((candidate for candidate in candidates if candidate.is_file()), path)
    if file.is_dir():
        raise CaptureError(f"{path}: holds no transforms.json and no capture.json; write one, or give another folder")
    if not str(read_json(file, "capture", CaptureError).get("format", "")).startswith(FORMAT_NAME):
        return read_transforms(file)
    found = read_capture(file)
    check_files(found)
    return found


def check_pixels(capture: Capture) -> None:
    """Decode every image and mask of a capture once: one that is cut short must not come to light in training.

    Raises:
        CaptureError: naming the first that is broken.
    """
    files = dict.fromkeys(
        (capture.image_dir / path, frame.intrinsics.size)
        for frame in capture.frames
        for path in (frame.image, frame.mask, frame.sky_mask)
        if path is not None
    )
    largest = max(width * height for _, (width, height) in files)
    at_once = max(1, min(available_cores(), DECODING_BYTES // (8 * largest)))
    with ThreadPoolExecutor(at_once) as pool:
        checks = pool.map(lambda file: check_image(*file), files)
        deque(progress(checks, "checking images", len(files)), maxlen=0)


def summary(capture: Capture) -> list[str]:
    """What a user should see to know that the capture was understood."""
    masked, skies = (sum(getattr(frame, kind) is not None for frame in capture.frames) for kind in ("mask", "sky_mask"))
    parts = [_described(capture)]
    parts += [f"{masked} masks"] if masked else []
    parts += [f"{skies} sky masks"] if skies else []
    parts += ["sparse points"] if capture.sparse_points else []
    parts += ["measured points"] if capture.lidar_points else []
    return [", ".join(parts), *_warnings(capture)]


def _described(capture: Capture) -> str:
    cameras, segments = len({frame.camera for frame in capture.frames}), len(capture.segments)
    size = f"{2 * capture.extent:.3g} {'m' if capture.is_metric else 'units'} across"
    counts = ((len(capture), "photograph"), (cameras, "camera"), (segments, "segment"))
    return ", ".join([*(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts), size])


def _warnings(capture: Capture) -> list[str]:
    """Cameras that agree on an upward direction far from z: a world that is probably not z-up."""
    turns = np.array([frame.camera_to_world for frame in capture.frames])[:, :, :3]
    up, forward = -turns[:, :, 1].mean(axis=0), turns[:, :, 2].mean(axis=0)
    # Cameras that look down (drones) have no upward direction to speak of.
    if np.linalg.norm(up) > 0.7 and up[2] < 0.3 and forward[2] > -0.7:
        found = ", ".join(f"{number:.2f}" for number in up)
        return [f"warning: the photographs' up is ({found}) on average, but z is taken as up; rotate poses and points"]
    return []


def _same(first: Capture, second: Capture) -> bool:
    """Whether two captures are one, up to the last digits of poses, which another machine may round differently."""
    if len(first) != len(second):
        return False
    theirs, ours = (np.array([frame.camera_to_world for frame in capture.frames]) for capture in (first, second))
    with_poses = tuple(
        replace(frame, camera_to_world=other.camera_to_world)
        for frame, other in zip(second.frames, first.frames, strict=True)
    )
    return replace(second, frames=with_poses) == first and bool(np.allclose(theirs, ours, rtol=1e-12, atol=1e-9))


def _check_free(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file, not a folder; {OTHER_FOLDER_HINT}")
    if run.is_dir() and any(not entry.name.startswith(".") for entry in run.iterdir()):
        raise RunError(f"{run}: holds files but no run; {OTHER_FOLDER_HINT}")
