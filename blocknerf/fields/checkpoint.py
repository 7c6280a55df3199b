"""The file of a field: weights, and a header with all that is needed to rebuild the field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.footprint_floor import STORAGE, FootprintFloor
from blocknerf.fields.spec import FieldSpec
from blocknerf.tensor_file import DIGEST, TensorFile
from blocknerf.values import first_line, one_case

FILE = TensorFile(format="blocknerf.field/4", what="field", remedy="train the block again")
FLOOR = "footprint_floor"
"""Key of the finest footprints of training, an optional tensor: previews and files of earlier versions have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMetadata:
    """The header of a field file."""

    spec: FieldSpec
    step: int
    """Number of training steps."""
    city: str
    """Digest of the city it belongs to."""
    fingerprint: str
    """Digest of the whole content, which identifies the field."""


def save_field(field: BlockField, path: Path, *, step: int, city: str) -> None:
    """Write a field atomically; equal fields produce equal files.

    Raises:
        RunError: the disk is full, or the folder is not writable.
    """
    tensors = field.state_dict()
    if field.footprint_floor is not None:
        tensors[FLOOR] = field.footprint_floor.min_std.to(STORAGE)
    FILE.write(path, tensors, {"spec": json.dumps(field.spec.to_json()), "step": str(step), "city": city})


def read_header(path: Path) -> FieldMetadata:
    """Read the header of a field file without its weights.

    Raises:
        CheckpointError: the file is missing, corrupt, or of another format.
    """
    try:
        return _parse_header(path, FILE.read_metadata(path))
    except FileNotFoundError:
        raise _missing(path) from None


def load_field(path: Path, device: torch.device | str = "cpu") -> BlockField:
    """Load a field onto a device, in evaluation mode and without gradients.

    The file format does not depend on the device that trained the field.

    Raises:
        CheckpointError: as for `read_header`, or the weights are damaged or do not match the header.
    """
    try:
        metadata, weights = FILE.read(path)
    except FileNotFoundError:
        raise _missing(path) from None
    spec, floor = _parse_header(path, metadata).spec, weights.pop(FLOOR, None)
    try:
        shapes = _expected_shapes(spec)
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{path}: its header is not a valid field ({reason}); train the block again") from None
    if name := _first_difference(shapes, {name: (value.shape, value.dtype) for name, value in weights.items()}):
        raise CheckpointError(f"{path}: weights do not match the header ({one_case(name)}); train the block again")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise CheckpointError(f"{path}: weights are not finite; train the block again")
    field = BlockField(spec)
    field.load_state_dict(weights)
    if floor is not None:
        field.footprint_floor = FootprintFloor(_checked_floor(path, floor))
    return field.eval().requires_grad_(False).to(device)


def fingerprint(path: Path) -> str:
    """Return the digest of the content of a field file; it changes when the block is trained again.

    Raises:
        CheckpointError: as for `read_header`.
    """
    return read_header(path).fingerprint


def _parse_header(path: Path, metadata: dict[str, str]) -> FieldMetadata:
    try:
        spec = FieldSpec.from_json(metadata["spec"])
        step, city = int(metadata["step"]), metadata["city"]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: broken header ({first_line(error)}); train the block again") from None
    return FieldMetadata(spec=spec, step=step, city=city, fingerprint=metadata[DIGEST])


def _expected_shapes(spec: FieldSpec) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return shape and dtype of each tensor, without allocating any: a broken header may ask for any size."""
    with torch.device("meta"):
        return {name: (value.shape, value.dtype) for name, value in BlockField(spec).state_dict().items()}


def _checked_floor(path: Path, floor: Tensor) -> Tensor:
    if floor.dim() != 3 or len(set(floor.shape)) != 1 or not floor.numel() or floor.dtype != STORAGE:
        raise CheckpointError(f"{path}: {FLOOR} is {tuple(floor.shape)} {floor.dtype}; train the block again")
    if not (floor.isfinite() & (floor >= 0.0)).all():
        raise CheckpointError(f"{path}: {FLOOR} is not finite or below 0; train the block again")
    return floor


def _first_difference(first: Mapping[str, object], second: Mapping[str, object]) -> str | None:
    """Return the first key in sorted order that is in only one of two mappings, or differs in value; else None."""
    return next((key for key in sorted({**first, **second}) if first.get(key) != second.get(key)), None)


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: no trained field here; run 'blocknerf train'")
