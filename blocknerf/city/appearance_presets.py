"""A look: a named appearance of the whole city, one code a block (`appearance/NAME.safetensors`)."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.manifest import check_file_name
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint, read_header
from blocknerf.files import parse_json
from blocknerf.tensor_file import TensorFile

FILE = TensorFile(
    format="blocknerf.appearance-preset/1",
    what="preset",
    remedy="remove the file and match the look again",
    error=RunError,
)
DEFAULT_PRESET = "default"
"""The look that a film shows where none is asked for."""

_KEYS = ("reference_block", "frame", "segment", "exposure", "city", "field_fingerprints")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearancePreset:
    """Codes that show one light in every block, and what they were found for."""

    reference_block: str
    """The block whose code the others were matched to."""
    frame: str | None
    """The photograph whose light it is; None for that of its segment on average."""
    segment: str
    """The segment whose light it is, and whose exposures it is shown with."""
    exposure: float | None
    """At which the blocks were matched, in the capture's unit; None where the capture says none."""
    city: str
    """Digest of the city."""
    field_fingerprints: Mapping[str, str]
    """Fingerprint of the field that each code is for: one that was trained anew needs another code."""
    codes: Mapping[str, Float[Tensor, "codes"]]
    """By block."""

    def __post_init__(self) -> None:
        if self.reference_block not in self.codes:
            raise RunError(f"look: root: {self.reference_block!r} is not among its blocks; match it again")
        for name in sorted(self.codes.keys() ^ self.field_fingerprints.keys()):
            raise RunError(f"look: fields: block {name} has a code or a fingerprint but not both; match it again")


def write_preset(look: AppearancePreset, path: Path) -> None:
    """Write a look, whole or not at all."""
    facts = {key: json.dumps(value, sort_keys=True) for key, value in _facts(look).items()}
    FILE.write(path, {name: code.float() for name, code in look.codes.items()}, facts)


def read_preset(path: Path) -> AppearancePreset:
    """Read a look; it opens alone.

    Raises:
        RunError: it is missing, broken, foreign or newer; the message names file, key and remedy.
    """
    try:
        metadata, codes = FILE.read(path)
    except FileNotFoundError:
        raise RunError(f"{path}: this look does not exist; run 'blocknerf match'") from None
    facts: dict[str, Any] = {key: _fact(path, metadata, key) for key in _KEYS}
    for name, code in codes.items():
        if code.ndim != 1 or code.dtype != torch.float32 or not code.isfinite().all():
            raise RunError(f"{path}: {name}: is not a row of finite numbers; remove the file and match the look again")
    try:
        return AppearancePreset(**facts, codes=codes)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('look: ')}") from None


def stale_blocks(look: AppearancePreset, run: RunFolder, city: str) -> Iterator[tuple[str, str]]:
    """Blocks of which a look has no good code, each with what happened."""
    if look.city != city:
        yield look.reference_block, "belongs to another city.json"
        return
    for name, known in look.field_fingerprints.items():
        if not run.field(name).exists():
            yield name, "is no longer trained"
        elif fingerprint(run.field(name)) != known:
            yield name, "was trained anew since"
    for name in run.trained_blocks():
        # A block that is none of this city's is refused where it is opened.
        if name not in look.field_fingerprints and read_header(run.field(name)).city == city:
            yield name, "was trained since"


def load_preset(run: RunFolder, name: str, city: str) -> AppearancePreset:
    """The look of that name, good for the run's fields as they are.

    Raises:
        RunError: there is none, it is broken, or a block was trained since.
    """
    check_file_name(name, "--appearance")
    path = run.appearance_preset(name)
    if not path.exists():
        known = ", ".join(run.preset_names()) or "none yet"
        raise RunError(
            f"{path}: there is no such look, the run has {known}; run 'blocknerf match' with --appearance {name}"
        )
    look = read_preset(path)
    for block, reason in stale_blocks(look, run, city):
        raise RunError(f"{path}: block {block} {reason}; run 'blocknerf match' with --appearance {name} again")
    return look


def interpolate_presets(
    first: AppearancePreset, second: AppearancePreset, share: float
) -> dict[str, Float[Tensor, "codes"]]:
    """The codes at a share of the way from one look to another; all blocks that both know.

    Light passes from one to the other in every block at once, so neighbors that agree at both ends stay near.
    """
    return {
        name: torch.lerp(code, second.codes[name], share) for name, code in first.codes.items() if name in second.codes
    }


def interpolate_exposure(first: float | None, second: float | None, share: float) -> float | None:
    """The exposure at a share of the way, evenly in stops; None where either is not known.

    >>> interpolate_exposure(16.0, 64.0, 0.5)
    32.0
    """
    if first is None or second is None:
        return None
    return 2.0 ** ((1.0 - share) * math.log2(first) + share * math.log2(second))


def _facts(look: AppearancePreset) -> dict[str, object]:
    return {key: dict(look.field_fingerprints) if key == "field_fingerprints" else getattr(look, key) for key in _KEYS}


_KINDS: dict[str, tuple[type, ...]] = {
    "reference_block": (str,),
    "frame": (str, type(None)),
    "segment": (str,),
    "exposure": (int, float, type(None)),
    "city": (str,),
    "field_fingerprints": (dict,),
}


def _fact(path: Path, metadata: Mapping[str, str], key: str) -> object:
    """A value of the header, of the kind it should be."""
    try:
        value = parse_json(metadata[key])
    except (KeyError, ValueError):
        raise RunError(f"{path}: {key}: is missing or broken; remove the file and match the look again") from None
    good = isinstance(value, _KINDS[key]) and not isinstance(value, bool)
    if key == "exposure" and value is not None:
        good = good and math.isfinite(value) and value > 0.0
    if key == "field_fingerprints" and good:
        good = all(isinstance(each, str) for each in value.values())
    if not good:
        raise RunError(f"{path}: {key}: {json.dumps(value)} does not fit; remove the file and match the look again")
    return value
