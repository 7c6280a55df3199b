"""Appearance presets: a named appearance of the whole city, one code per block (`appearance/NAME.safetensors`)."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.manifest import check_file_name
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint, read_header
from blocknerf.json_file import JsonFile, Positive, Record
from blocknerf.tensor_file import TensorFile
from blocknerf.values import format_value

_HINT = "remove the file and run 'blocknerf match' again"

FILE = TensorFile(
    format="blocknerf.appearance-preset/1",
    what="preset",
    remedy=_HINT,
    error=RunError,
)
DEFAULT_PRESET = "default"
"""Preset of a video where none is requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearancePreset:
    """Codes that give every block the same appearance, and the reference they were matched to."""

    reference_block: str
    """Block that the other blocks were matched to."""
    frame: str | None
    """Reference image; None for the mean appearance of its segment."""
    segment: str
    """Reference segment; its exposures are used for rendering."""
    exposure: float | None
    """Exposure at which the blocks were matched, in the capture's unit; None if the capture has none."""
    city: str
    """Digest of the city."""
    field_fingerprints: Mapping[str, str]
    """Fingerprint of the field that each code belongs to; a retrained field needs another code."""
    codes: Mapping[str, Float[Tensor, "codes"]]
    """By block name."""

    def __post_init__(self) -> None:
        if self.reference_block not in self.codes:
            raise RunError(
                f"preset: reference_block: {format_value(self.reference_block)} is not among its blocks; match it again"
            )
        for name in sorted(self.codes.keys() ^ self.field_fingerprints.keys()):
            raise RunError(f"preset: field_fingerprints: block {name} has no code or no fingerprint; match it again")


class _Header(Record, frozen=True, kw_only=True):
    """The metadata of the file, each value as JSON."""

    reference_block: str
    frame: str | None
    segment: str
    exposure: Positive | None
    city: str
    field_fingerprints: dict[str, str]


_HEADER = JsonFile(content=_Header, what="preset", remedy=_HINT)


def write_preset(preset: AppearancePreset, path: Path) -> None:
    """Write a preset atomically."""
    values = {key: json.dumps(getattr(preset, key), sort_keys=True) for key in _Header.__struct_fields__}
    FILE.write(path, {name: code.float() for name, code in preset.codes.items()}, values)


def read_preset(path: Path) -> AppearancePreset:
    """Read a preset; nothing else of the run is needed.

    Raises:
        RunError: the file is missing, broken, of another format or newer; the message names file, key and hint.
    """
    try:
        metadata, codes = FILE.read(path)
    except FileNotFoundError:
        raise RunError(f"{path}: this preset does not exist; run 'blocknerf match'") from None
    values = ", ".join(f'"{key}": {metadata[key]}' for key in _Header.__struct_fields__ if key in metadata)
    header = _HEADER.decode(f"{{{values}}}".encode(), str(path))
    for name, code in codes.items():
        if code.ndim != 1 or code.dtype != torch.float32 or not code.isfinite().all():
            raise RunError(f"{path}: {name}: is not a vector of finite numbers; {_HINT}")
    try:
        return AppearancePreset(**msgspec.structs.asdict(header), codes=codes)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('preset: ')}") from None


def stale_blocks(preset: AppearancePreset, run: RunFolder, city: str) -> Iterator[tuple[str, str]]:
    """Yield the blocks without a valid code in a preset, each with the reason."""
    if preset.city != city:
        yield preset.reference_block, "belongs to another city.json"
        return
    for name, digest in preset.field_fingerprints.items():
        if not run.field(name).exists():
            yield name, "is no longer trained"
        elif fingerprint(run.field(name)) != digest:
            yield name, "was retrained since"
    for name in run.trained_blocks():
        # A block of another city is rejected when it is loaded.
        if name not in preset.field_fingerprints and read_header(run.field(name)).city == city:
            yield name, "was trained since"


def load_preset(run: RunFolder, name: str, city: str) -> AppearancePreset:
    """Return the preset of a name, checked against the run's current fields.

    Raises:
        RunError: the preset is missing or broken, or a block was trained since.
    """
    check_file_name(name, "--appearance")
    path = run.appearance_preset(name)
    if not path.exists():
        known = ", ".join(run.preset_names()) or "none yet"
        raise RunError(
            f"{path}: there is no such preset, the run has {known}; run 'blocknerf match' with --appearance {name}"
        )
    preset = read_preset(path)
    for block, reason in stale_blocks(preset, run, city):
        raise RunError(f"{path}: block {block} {reason}; run 'blocknerf match' with --appearance {name} again")
    return preset


def interpolate_presets(
    first: AppearancePreset, second: AppearancePreset, fraction: float
) -> dict[str, Float[Tensor, "codes"]]:
    """Return the codes at a fraction of the way from one preset to another, for all blocks in both.

    All blocks change together, so neighbors that agree at both ends stay close in between.
    """
    return {
        name: torch.lerp(code, second.codes[name], fraction)
        for name, code in first.codes.items()
        if name in second.codes
    }


def interpolate_exposure(first: float | None, second: float | None, fraction: float) -> float | None:
    """Return the exposure at a fraction of the way, linear in stops; None if either is unknown.

    >>> interpolate_exposure(16.0, 64.0, 0.5)
    32.0
    """
    if first is None or second is None:
        return None
    return 2.0 ** ((1.0 - fraction) * math.log2(first) + fraction * math.log2(second))
