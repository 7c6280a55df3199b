"""The images of a folder: which files they are, whether they can be read, and what the camera recorded."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blocknerf.capture.image_files import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES
from blocknerf.errors import CaptureError
from blocknerf.images import check_image
from blocknerf.kernels.threads import available_cores
from blocknerf.sfm.exif import PhotoRecord, read_record
from blocknerf.sfm.stages import LOGGER

OTHER_FOLDERS = ("mask", "depth", "sky", "normal", "sparse", "dense", "stereo")
"""Starts of the names of subfolders that hold other images than photos."""
MAX_NAMED = 5
"""Broken images that a message names; it counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One photo or frame of a video."""

    path: str
    """Relative to the folder, with forward slashes."""
    record: PhotoRecord


def image_paths(folder: Path) -> list[str]:
    """Return the images of a folder; if it has none itself, those of its subfolders, except masks and the like."""
    found = _images(folder)
    if not found:
        subfolders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _may_hold_photos(path)]
        found = [path for subfolder in subfolders for path in _images(subfolder)]
    return [path.relative_to(folder).as_posix() for path in found]


def read_photos(folder: Path, *, keep_going: bool) -> tuple[list[Photo], list[str]]:
    """Return the photos of a folder in the order of time, and the reasons why others are left out.

    Every image is decoded, so that broken ones are found before the long computation.

    Raises:
        CaptureError: there are no images, or some are broken and `keep_going` is off; the message names them.
    """
    paths = image_paths(folder)
    if not paths:
        raise CaptureError(f"{folder}: {_why_none(folder)}")
    LOGGER.info(f"checking {len(paths)} images")
    with ThreadPoolExecutor(available_cores()) as pool:
        faults = list(pool.map(lambda path: _fault(folder / path), paths))
    broken = [fault for fault in faults if fault is not None]
    if broken and not keep_going:
        raise CaptureError(f"{_broken(folder, paths, faults)}; replace them, or leave them out with --keep-going")
    usable = [path for path, fault in zip(paths, faults, strict=True) if fault is None]
    if not usable:
        raise CaptureError(f"{folder}: none of its {len(paths)} images can be read; the first: {broken[0]}")
    return in_order([Photo(path=path, record=read_record(folder / path)) for path in usable]), broken


def in_order(photos: Sequence[Photo]) -> list[Photo]:
    """Return photos by folder and time; by name in folders where a time is missing."""
    dated: dict[str, bool] = {}
    for photo in photos:
        folder = photo.path.rpartition("/")[0]
        dated[folder] = dated.get(folder, True) and photo.record.timestamp is not None

    def rank(photo: Photo) -> tuple[str, float, str]:
        folder = photo.path.rpartition("/")[0]
        return folder, photo.record.timestamp or 0.0 if dated[folder] else 0.0, photo.path

    return sorted(photos, key=rank)


def _images(folder: Path) -> list[Path]:
    paths = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(path for path in paths if path.is_file())


def _may_hold_photos(folder: Path) -> bool:
    return not folder.name.startswith(".") and not folder.name.lower().startswith(OTHER_FOLDERS)


def _fault(path: Path) -> str | None:
    try:
        check_image(path)
    except CaptureError as error:
        return str(error).rpartition(";")[0]
    return None


def _broken(folder: Path, paths: Sequence[str], faults: Sequence[str | None]) -> str:
    names = [path for path, fault in zip(paths, faults, strict=True) if fault is not None]
    first = next(fault for fault in faults if fault is not None)
    reason = first.removeprefix(f"{folder / names[0]}: ")
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    listed = ", ".join(names[:MAX_NAMED])
    return f"{folder}: {len(names)} of {len(paths)} images cannot be read: {listed}{more} (the first: {reason})"


def _why_none(folder: Path) -> str:
    others = [path.suffix.lower() for path in folder.iterdir() if path.suffix.lower() in UNSUPPORTED_SUFFIXES]
    if others:
        return f"holds {len(others)} {others[0]} photos, which cannot be read; convert them to JPEG or PNG"
    return f"holds no images; give a folder of {', '.join(IMAGE_SUFFIXES)} files, or a video"
