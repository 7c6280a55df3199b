"""Recognition: which importer reads a file or folder."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import Conventions, examine
from blocknerf.errors import CaptureError, error_context
from blocknerf.importers import (
    arrow_logs,
    captures,
    colmap,
    kitti_odometry,
    kitti_raw,
    metashape,
    mission_bay,
    nuscenes,
    opensfm,
    phone_scans,
    photos,
    unsupported,
    video,
)
from blocknerf.importers.importer import DEFAULT_OPTIONS, Importer, ImportOptions
from blocknerf.importers.masks import apply_masks
from blocknerf.importers.split_list import apply_test_list
from blocknerf.importers.user_functions import run_importer
from blocknerf.values import one_case

IMPORTERS: tuple[Importer, ...] = (
    captures.CAPTURE,
    video.VIDEO,
    captures.TRANSFORMS,
    captures.BLENDER,
    kitti_raw.KITTI_RAW,
    kitti_odometry.KITTI_ODOMETRY,
    nuscenes.NUSCENES,
    arrow_logs.ARROW_LOG,
    mission_bay.MISSION_BAY,
    colmap.COLMAP,
    opensfm.OPENSFM,
    metashape.METASHAPE,
    phone_scans.POLYCAM,
    phone_scans.RECORD3D,
    photos.PHOTOS,
)
"""All importers; the first that recognizes a source reads it."""


def load_source(path: Path, options: ImportOptions = DEFAULT_OPTIONS, work: Path | None = None) -> Capture:
    """Return the capture in a file or folder of any supported kind.

    A folder of folders is read if exactly one of them is a source.

    Args:
        path: The file or folder.
        options: Options of the import.
        work: Folder for files that the import makes. Default: a folder `.blocknerf` next to the source.

    Raises:
        CaptureError: The source is not recognized, or it cannot be used; the message says what to do.
        OptionError: A number is out of range.
    """
    options.check()
    if not path.exists():
        raise CaptureError(f"{path}: does not exist; check the path")
    work = work or path.parent / ".blocknerf"
    # Huge numbers of a broken file overflow; frames and lenses reject what comes out.
    with error_context(str(path)), np.errstate(over="ignore", invalid="ignore"):
        capture, importer = _read(path, options, work)
        axes = options.camera_axes if importer is not None and not importer.defines_axes else None
        up = "z" if options.up == "auto" and importer is not None and importer.defines_up else options.up
        examined = examine(capture, Conventions(up=up, camera_axes=axes))
        return apply_test_list(apply_masks(examined, options, work), options.test_list)


def _read(path: Path, options: ImportOptions, work: Path) -> tuple[Capture, Importer | None]:
    """Return the capture and its importer; None for one of the user."""
    if options.importer is not None:
        return run_importer(options.importer, path), None
    found = recognize(path)
    nested = [] if found not in (None, photos.PHOTOS) else _nested(path)
    if found is not None:  # Photos have no poses, so a source in a subfolder comes before them, if it has.
        nested = [(inner, importer) for inner, importer in nested if importer is not video.VIDEO]
    if len(nested) == 1:
        ((inner, importer),) = nested
        capture = importer.read(inner, options, work)
        note = f"found {importer.kind}: {one_case(inner.name)}"
        return replace(capture, notes=(note, *capture.notes)), importer
    if nested:
        names = ", ".join(one_case(inner.name) for inner, _ in nested[:3])
        raise CaptureError(f"{path}: holds {len(nested)} sources ({names}{', ...' if nested[3:] else ''}); give one")
    if found is not None:
        return found.read(path, options, work), found
    raise unsupported.explain(path)


def recognize(path: Path) -> Importer | None:
    """Return the importer that reads a file or folder, or None."""
    return next((importer for importer in IMPORTERS if importer.recognizes(path)), None)


def _nested(path: Path) -> list[tuple[Path, Importer]]:
    """Return the sources in a folder: subfolders, except folders of photos, and videos."""
    if not path.is_dir():
        return []
    entries = sorted(islice(path.iterdir(), unsupported.MAX_LISTED))
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    pairs = ((entry, recognize(entry)) for entry in shown if entry.is_dir() or video.VIDEO.recognizes(entry))
    return [(entry, importer) for entry, importer in pairs if importer is not None and importer is not photos.PHOTOS]
