"""Named tensors with metadata as one safetensors file: equal content is equal bytes, and damage is refused.

The header is canonical JSON (sorted keys), so that a file depends on its content alone. It carries two SHA-256 digests:
one of the tensors' bytes, and one of the header with it. The header alone thus identifies the content, and either part
is checked when it is read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blocknerf.errors import BlockNerfError, CheckpointError
from blocknerf.files import check_format_version, open_regular, parse_json, read_bounded, write_atomic
from blocknerf.values import first_line

MAX_FILE_BYTES = 16 << 30
"""Bytes; a block of the largest preset takes about 200 MB, its checkpoint three times as much."""
MAX_HEADER_BYTES = 64 << 20
"""Bytes; a block of 100,000 frames has a header of about 5 MB, since it names them."""
METADATA, DATA_DIGEST, DIGEST = "__metadata__", "data_sha256", "sha256"
DAMAGED = "damaged: its content does not match its digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFile:
    """One kind of file: what it is called in messages, and what to do when it cannot be read."""

    format: str
    """Name and version, like "blocknerf.field/3"."""
    what: str
    """What messages call it, like "field"."""
    remedy: str
    error: type[BlockNerfError] = CheckpointError
    """What is raised then."""

    def write(self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write tensors, of any device, and metadata, whole or not at all.

        Raises:
            RunError: the disk is full, or the folder cannot be written to.
        """
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        end = 8 + _header_length(data[:8])
        header, body = json.loads(data[8:end]), memoryview(data)[end:]
        header[METADATA] = {**metadata, "format": self.format, DATA_DIGEST: hashlib.sha256(body).hexdigest()}
        header[METADATA][DIGEST] = _digest(header)
        text = _canonical(header)
        text += b" " * (-len(text) % 8)  # safetensors aligns the tensors
        write_atomic(path, b"".join([len(text).to_bytes(8, "little"), text, body]))

    def read_metadata(self, path: Path) -> dict[str, str]:
        """The metadata of a file. The tensors are not read: `sha256` identifies them, too.

        Raises:
            FileNotFoundError: it does not exist.
            BlockNerfError: (of the kind `error`) it is damaged, or of another format.
        """
        with open_regular(path, self._name, self.error) as (stream, _):
            head = stream.read(8)
            return self._checked(path, head + stream.read(min(_header_length(head), MAX_HEADER_BYTES)))[0]

    def read(self, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
        """Metadata and tensors, the latter on the CPU.

        Raises:
            FileNotFoundError: it does not exist.
            BlockNerfError: (of the kind `error`) it is damaged, or of another format.
        """
        data = read_bounded(path, self._name, self.error, MAX_FILE_BYTES)
        metadata, end = self._checked(path, data)
        if hashlib.sha256(memoryview(data)[end:]).hexdigest() != metadata.get(DATA_DIGEST):
            raise self._refusal(path, DAMAGED)
        try:
            return metadata, load(data)
        except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
            raise self._refusal(path, first_line(error)) from None

    @property
    def _name(self) -> str:
        return f"{self.what} file"

    def _checked(self, path: Path, data: bytes) -> tuple[dict[str, str], int]:
        """The metadata of a header that is whole, and where the tensors begin."""
        end = 8 + _header_length(data[:8])
        try:
            header = parse_json(data[8:end]) if end <= len(data) else None
        except ValueError:
            header = None
        metadata = header.get(METADATA, {}) if isinstance(header, dict) else None
        if header is None or not isinstance(metadata, dict) or not _is_text(metadata.values()):
            raise self._refusal(path, "its header is damaged or cut short")
        check_format_version(metadata.get("format"), self.format, path, self.remedy, self.error)
        found = metadata.pop(DIGEST, None)
        if found != _digest(header):
            raise self._refusal(path, DAMAGED)
        return metadata | {DIGEST: found}, end

    def _refusal(self, path: Path, reason: str) -> BlockNerfError:
        return self.error(f"{path}: not a readable {self.what} ({reason}); {self.remedy}")


def _header_length(head: bytes) -> int:
    return int.from_bytes(head, "little")


def _is_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _canonical(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(header: dict[str, Any]) -> str:
    """Of a header without its own digest."""
    return hashlib.sha256(_canonical(header)).hexdigest()
