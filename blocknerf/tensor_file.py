"""Named tensors with metadata in one reproducible safetensors file; damaged files are rejected.

The header is canonical JSON (sorted keys), so equal content means equal bytes. It holds two SHA-256 digests: one of the
tensor bytes, and one of the header, which includes the first. The header alone thus identifies the content, and each
part is checked when it is read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blocknerf.errors import BlockNerfError, CheckpointError
from blocknerf.files import check_format_version, open_regular, read_bounded, write_atomic
from blocknerf.values import first_line

MAX_FILE_BYTES = 16 << 30
"""Maximum file size; a block of the largest preset takes about 200 MB, its checkpoint three times as much."""
MAX_HEADER_BYTES = 64 << 20
"""Maximum header size; the header of a block with 100,000 frames takes about 5 MB, since it names them."""
METADATA, DATA_DIGEST, DIGEST = "__metadata__", "data_sha256", "sha256"
DAMAGED = "damaged: its content does not match its digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFile:
    """A type of file: its format, its name in messages, and what to do if it cannot be read."""

    format: str
    """Name and version, like "blocknerf.field/3"."""
    what: str
    """Name in messages, like "field"."""
    remedy: str
    """What to do if the file cannot be read."""
    error: type[BlockNerfError] = CheckpointError
    """Type of the error that is raised then."""

    def write(self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write tensors (on any device) and metadata atomically.

        Raises:
            RunError: the disk is full, or the folder is not writable.
        """
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        end = 8 + _header_length(data[:8])
        header, body = json.loads(data[8:end]), memoryview(data)[end:]
        header[METADATA] = {**metadata, "format": self.format, DATA_DIGEST: hashlib.sha256(body).hexdigest()}
        header[METADATA][DIGEST] = _digest(header)
        text = _canonical(header)
        text += b" " * (-len(text) % 8)  # safetensors requires aligned tensors
        write_atomic(path, b"".join([len(text).to_bytes(8, "little"), text, body]))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """Return the metadata of a file without reading its tensors; `sha256` identifies them, too.

        Raises:
            FileNotFoundError: the file does not exist.
            BlockNerfError: (of type `error`) the file is damaged, or of another format.
        """
        with open_regular(path, self._name, self.error) as (stream, _):
            head = stream.read(8)
            return self._read_header(path, head + stream.read(min(_header_length(head), MAX_HEADER_BYTES)))[0]

    def read(self, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Return metadata and tensors, the latter on the CPU.

        Raises:
            FileNotFoundError: the file does not exist.
            BlockNerfError: (of type `error`) the file is damaged, or of another format.
        """
        data = read_bounded(path, self._name, self.error, MAX_FILE_BYTES)
        metadata, end = self._read_header(path, data)
        if hashlib.sha256(memoryview(data)[end:]).hexdigest() != metadata.get(DATA_DIGEST):
            raise self._unreadable(path, DAMAGED)
        try:
            return metadata, load(data)
        except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
            raise self._unreadable(path, first_line(error)) from None

    @property
    def _name(self) -> str:
        return f"{self.what} file"

    def _read_header(self, path: Path, data: bytes) -> tuple[dict[str, str], int]:
        """Return the metadata of an intact header, and the offset of the tensors."""
        end = 8 + _header_length(data[:8])
        try:
            header = msgspec.json.decode(data[8:end], type=dict[str, Any]) if end <= len(data) else None
        except (ValueError, RecursionError):
            header = None
        metadata = header.get(METADATA, {}) if header is not None else None
        if header is None or not isinstance(metadata, dict) or not _is_text(metadata.values()):
            raise self._unreadable(path, "its header is damaged or truncated")
        check_format_version(metadata.get("format"), self.format, path, self.remedy, self.error)
        digest = metadata.pop(DIGEST, None)
        if digest != _digest(header):
            raise self._unreadable(path, DAMAGED)
        return metadata | {DIGEST: digest}, end

    def _unreadable(self, path: Path, reason: str) -> BlockNerfError:
        return self.error(f"{path}: not a readable {self.what} ({reason}); {self.remedy}")


def _header_length(head: bytes) -> int:
    return int.from_bytes(head, "little")


def _is_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _canonical(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(header: dict[str, Any]) -> str:
    """Return the digest of a header that does not hold its own digest."""
    return hashlib.sha256(_canonical(header)).hexdigest()
