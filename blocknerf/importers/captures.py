"""Importers of captures in the project's own format and in that of nerfstudio and instant-ngp."""

from pathlib import Path

from blocknerf.capture.capture import Capture, check_files, read_capture
from blocknerf.capture.capture_record import CAPTURE_FORMAT
from blocknerf.capture.transforms import read_transforms
from blocknerf.errors import CaptureError
from blocknerf.importers.importer import Importer, ImportOptions
from blocknerf.json_file import read_format


def _is_capture(path: Path) -> bool:
    if path.is_dir():
        return (path / "capture.json").is_file() and not (path / "transforms.json").is_file()
    if path.suffix != ".json":
        return False
    format_name = CAPTURE_FORMAT.split("/")[0]
    return read_format(path, "capture", CaptureError).startswith(format_name)


def _is_transforms(path: Path) -> bool:
    return (path / "transforms.json").is_file() if path.is_dir() else path.is_file()


def _read_capture(path: Path, options: ImportOptions, work: Path) -> Capture:
    capture = read_capture(path / "capture.json" if path.is_dir() else path)
    check_files(capture)
    return capture


def _read_transforms(path: Path, options: ImportOptions, work: Path) -> Capture:
    return read_transforms(path)


CAPTURE = Importer(kind="a capture", recognizes=_is_capture, read=_read_capture)
TRANSFORMS = Importer(kind="a transforms.json", recognizes=_is_transforms, read=_read_transforms, defines_axes=False)
