"""The frames of a large `capture.json` in a binary table next to it, which opens in milliseconds.

The JSON file is the capture; the table only repeats it. A table that is damaged, missing, or of another state of the
JSON file is not used.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blocknerf.capture.frame import Frame
from blocknerf.capture.frame_table import FrameTable, to_table
from blocknerf.errors import CaptureError
from blocknerf.tensor_file import TensorFile

MIN_FRAMES = 2_000
"""Captures with fewer frames are read from JSON in about 0.1 s, and get no table."""
CHUNK = 1 << 20
"""Bytes of the capture file that are read together for its digest."""
HEADER = "header"
_FILE = TensorFile(format="blocknerf.capture-table/1", what="capture table", remedy="delete it", error=CaptureError)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureTable:
    """The content of a table."""

    header: bytes
    """The JSON text of the capture without its frames."""
    columns: dict[str, np.ndarray]
    """Arrays of a `FrameTable`."""

    @classmethod
    def of(cls, frames: FrameTable, header: Sequence[str]) -> "CaptureTable":
        """Return the table of some frames, and of the lines of the capture's JSON without its frames."""
        text = "{" + ",\n".join(header) + ',\n"frames": []}'
        return cls(header=text.encode(), columns=frames.columns)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "CaptureTable":
        """Return the table of the tensors of a file."""
        columns = {key: tensor.numpy() for key, tensor in tensors.items()}
        return cls(header=columns.pop(HEADER).tobytes(), columns=columns)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a file."""
        columns = {**self.columns, HEADER: np.frombuffer(self.header, np.uint8)}
        return {key: torch.from_numpy(np.array(values)) for key, values in columns.items()}


def table_path(capture: Path) -> Path:
    """Return the table of a capture file.

    >>> table_path(Path("run/capture.json")).as_posix()
    'run/capture.table'
    """
    return capture.with_suffix(".table")


def write_table(frames: Sequence[Frame], header: Sequence[str], capture: Path) -> None:
    """Write the table of a capture file that was just written; a small capture has none.

    Args:
        frames: The frames of the capture.
        header: The lines of the file's JSON, one for each key except for `frames`.
        capture: The capture file.
    """
    path = table_path(capture)
    if len(frames) < MIN_FRAMES:
        path.unlink(missing_ok=True)
        return
    table = CaptureTable.of(to_table(frames), header)
    _FILE.write(path, table.tensors(), {**_state(capture), "capture_sha256": _digest(capture)})


def read_table(capture: Path) -> CaptureTable | None:
    """Return the table of a capture file, or None if the file has none that repeats its present content."""
    path = table_path(capture)
    try:
        metadata, tensors = _FILE.read(path)
        if not _repeats(metadata, capture):
            return None
    except (OSError, CaptureError):
        return None
    return CaptureTable.from_tensors(tensors)


def _repeats(metadata: dict[str, str], capture: Path) -> bool:
    """Return whether a table repeats the capture file: by size and time of the last change, else by content."""
    state = _state(capture)
    if metadata.get("capture_bytes") != state["capture_bytes"]:
        return False
    is_untouched = metadata.get("capture_changed") == state["capture_changed"]
    return is_untouched or metadata.get("capture_sha256") == _digest(capture)


def _state(capture: Path) -> dict[str, str]:
    status = capture.stat()
    return {"capture_bytes": str(status.st_size), "capture_changed": str(status.st_mtime_ns)}


def _digest(capture: Path) -> str:
    digest = hashlib.sha256()
    with capture.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
