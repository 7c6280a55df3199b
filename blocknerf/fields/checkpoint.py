"""A block's field as one file: weights, and in its header all that is needed to rebuild it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.files import parse_json
from blocknerf.tensor_file import DIGEST, TensorFile
from blocknerf.values import first_line, one_case

FILE = TensorFile(format="blocknerf.field/3", what="field", remedy="train the block again")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMetadata:
    """What a field file says of itself."""

    spec: FieldSpec
    step: int
    """Training steps it has seen."""
    city: str
    """Digest of the city it belongs to."""
    fingerprint: str
    """Digest of the whole content: what tells a field from any other."""


def save_field(field: BlockField, path: Path, *, step: int, city: str) -> None:
    """Write a field atomically; equal fields are equal files.

    Raises:
        RunError: the disk is full, or the folder cannot be written to.
    """
    FILE.write(path, field.state_dict(), {"spec": json.dumps(field.spec.to_json()), "step": str(step), "city": city})


def read_header(path: Path) -> FieldMetadata:
    """What a field file says of itself, without its weights.

    Raises:
        CheckpointError: The file is missing, corrupt, of another kind or of another format.
    """
    try:
        return _header(path, FILE.read_metadata(path))
    except FileNotFoundError:
        raise _missing(path) from None


def load_field(path: Path, device: torch.device | str = "cpu") -> BlockField:
    """Rebuild a field from its file on a device, in evaluation mode and without gradients.

    The file is the same whichever device trained it.

    Raises:
        CheckpointError: As `read_header`, or the weights are damaged or do not fit the header's spec.
    """
    try:
        metadata, weights = FILE.read(path)
    except FileNotFoundError:
        raise _missing(path) from None
    spec = _header(path, metadata).spec
    try:
        shapes = _shapes(spec)
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path}: its header describes no field ({reason}); train the block again") from None
    if odd := _difference(shapes, {name: (value.shape, value.dtype) for name, value in weights.items()}):
        raise CheckpointError(f"{path}: weights do not fit the header ({one_case(odd)}); train the block again")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise CheckpointError(f"{path}: holds values that are not finite; train the block again")
    field = BlockField(spec)
    field.load_state_dict(weights)
    return field.eval().requires_grad_(False).to(device)


def fingerprint(path: Path) -> str:
    """What tells a field from one trained anew: the digest in its header, of all its content.

    Raises:
        CheckpointError: As `read_header`.
    """
    return read_header(path).fingerprint


def _header(path: Path, metadata: dict[str, str]) -> FieldMetadata:
    try:
        spec = FieldSpec.from_json(parse_json(metadata["spec"]))
        step, city = int(metadata["step"]), metadata["city"]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: broken header ({first_line(error)}); train the block again") from None
    return FieldMetadata(spec=spec, step=step, city=city, fingerprint=metadata[DIGEST])


def _shapes(spec: FieldSpec) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each tensor of a field; nothing is allocated, however large a broken header says it is."""
    with torch.device("meta"):
        return {name: (value.shape, value.dtype) for name, value in BlockField(spec).state_dict().items()}


def _difference(first: Mapping[str, object], second: Mapping[str, object]) -> str | None:
    """The first key by name that is only in one of two mappings, or has another value there."""
    return next((key for key in sorted({**first, **second}) if first.get(key) != second.get(key)), None)


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: no trained field here; run 'blocknerf train'")
