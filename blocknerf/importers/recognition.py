"""Recognition: which importer reads a file or folder."""

from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError
from blocknerf.importers import captures, photos, video
from blocknerf.importers.importer import Importer, ImportOptions

IMPORTERS: tuple[Importer, ...] = (captures.CAPTURE, video.VIDEO, captures.TRANSFORMS, photos.PHOTOS)
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
            return importer.read(path, options, work or path.parent / ".blocknerf")
    raise CaptureError(f"{path}: has neither transforms.json nor capture.json; write one, or give another folder")
