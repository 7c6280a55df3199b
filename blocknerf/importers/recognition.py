"""Recognition: which importer reads a file or folder."""

from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.capture.examination import Conventions, examine
from blocknerf.errors import CaptureError
from blocknerf.importers import arrow_logs, captures, kitti_odometry, kitti_raw, mission_bay, nuscenes
from blocknerf.importers.importer import Importer, ImportOptions

IMPORTERS: tuple[Importer, ...] = (
    kitti_raw.KITTI_RAW,
    kitti_odometry.KITTI_ODOMETRY,
    nuscenes.NUSCENES,
    arrow_logs.ARROW_LOG,
    mission_bay.MISSION_BAY,
    captures.CAPTURE,
    captures.TRANSFORMS,
)
"""All importers; the first that recognizes a source reads it."""


def load_source(path: Path, options: ImportOptions = ImportOptions(), work: Path | None = None) -> Capture:  # noqa: B008
    """Return the capture in a file or folder of any supported kind.

    Args:
        path: The file or folder.
        options: Options of the import.
        work: Folder for files that the import makes. Default: a folder `.blocknerf` beside the source.

    Raises:
        CaptureError: The source is not recognized, or it cannot be used; the message says what to do.
    """
    if not path.exists():
        raise CaptureError(f"{path}: does not exist; give a transforms.json or its folder")
    for importer in IMPORTERS:
        if importer.recognizes(path):
            capture = importer.read(path, options, work or path.parent / ".blocknerf")
            axes = None if importer.defines_axes else options.camera_axes
            return examine(capture, Conventions(up=options.up, camera_axes=axes))
    raise CaptureError(f"{path}: has neither transforms.json nor capture.json; write one, or give another folder")
