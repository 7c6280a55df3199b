"""Importer of folders of photos without poses, which are computed by structure from motion."""

from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.sfm.image_folder import image_paths
from blocknerf.sfm.poses import poses_of_photos


def _is_photos(path: Path) -> bool:
    return path.is_dir() and not _holds_captures(path) and bool(image_paths(path))


def _holds_captures(path: Path) -> bool:
    return any((folder / "transforms.json").is_file() for folder in (path, *path.iterdir()))


def _read(path: Path, options: ImportOptions, work: Path) -> Capture:
    return poses_of_photos(path, work, options.sfm, keep_going=options.keep_going)


PHOTOS = Importer(kind="a folder of photos", recognizes=_is_photos, defines_up=True, read=_read)
