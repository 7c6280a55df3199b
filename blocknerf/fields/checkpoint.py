"""A block's field as one file: weights, and in its header all that is needed to rebuild it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.spec import FieldSpec
from blocknerf.files import atomic_path, check_format

FORMAT = "blocknerf.field/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldHeader:
    """What a field file says of itself."""

    spec: FieldSpec
    step: int
    """Training steps it has seen."""
    city: str
    """Digest of the city it belongs to."""


def save_field(field: BlockField, path: Path, *, step: int, city: str) -> None:
    """Write a field atomically."""
    header = {
        "format": FORMAT,
        "spec": json.dumps(field.spec.to_json()),
        "step": str(step),
        "city": city,
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in field.state_dict().items()}
    with atomic_path(path) as part:
        save_file(weights, part, metadata=header)


def read_header(path: Path) -> FieldHeader:
    """What a field file says of itself, without its weights.

    Raises:
        CheckpointError: The file is missing, corrupt, of another kind or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as content:
            metadata = content.metadata() or {}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no trained field here; run 'blocknerf train'") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable field ({error}); train the block again") from None
    check_format(metadata.get("format"), FORMAT, path, "train the block again", CheckpointError)
    try:
        spec = FieldSpec.from_json(json.loads(metadata["spec"]))
        return FieldHeader(spec=spec, step=int(metadata["step"]), city=metadata["city"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: broken header ({error}); train the block again") from None


def load_field(path: Path, device: torch.device | str = "cpu") -> BlockField:
    """Rebuild a field from its file on a device, in evaluation mode and without gradients.

    The file is the same whichever device trained it.

    Raises:
        CheckpointError: As `read_header`, or the weights do not fit the header's spec.
    """
    header = read_header(path)
    try:
        field = BlockField(header.spec)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: its header describes no field ({reason}); train the block again") from None
    try:
        with safe_open(path, framework="pt") as content:
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        field.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: weights do not fit the header ({reason}); train the block again") from None
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise CheckpointError(f"{path}: holds values that are not finite; train the block again")
    return field.eval().requires_grad_(False).to(device)


def fingerprint(path: Path) -> str:
    """What tells a field from one trained anew: a digest of its header and codes, read without its other weights.

    Raises:
        CheckpointError: As `read_header`.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="np") as content:
            codes = content.get_tensor("codes")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: holds no readable codes ({error}); train the block again") from None
    facts = json.dumps([header.spec.to_json(), header.step, header.city, codes.shape], sort_keys=True)
    return hashlib.sha256(facts.encode() + codes.tobytes()).hexdigest()
