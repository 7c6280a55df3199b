"""Training and field parameters set by name: `training.grid_lr=0.01`, `field.num_levels=10`."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from blocknerf.errors import OptionError
from blocknerf.fields.spec import FieldSpec
from blocknerf.training.config import TrainConfig

OWN_OPTION = {
    "steps": "--steps",
    "downscale": "--downscale",
    "pose_refinement": "--pose-refinement",
    "pose_segment_length": "--pose-segment-length",
    "pose_restarts": "--pose-restarts",
    "robust_trim": "--robust-trim",
    "image_cache_bytes": "--image-cache-gb",
    "seed": "--seed",
}
"""Training parameters that the commands offer as options."""
DERIVED = ("origin", "half_extent", "frames", "exposure_reference")
"""Field parameters that follow from the block and its frames."""
FRACTIONS = ("depth_ray_fraction", "lr_final_ratio")
"""Training parameters from 0 to 1."""
FIXED_BASE_RESOLUTION = 16
"""Base resolution of the proposal and visibility grids, which their maximum must reach."""
MAX_LOG2_HASHMAP_SIZE = 24
"""Entries per level as a power of two: more does not fit any GPU."""
MAX_RAYS_PER_STEP = 1 << 20

PARAMETERS: Mapping[str, Mapping[str, type]] = {
    "training": {item.name: item.type for item in fields(TrainConfig) if item.name not in OWN_OPTION},  # type: ignore[misc]
    "field": {item.name: item.type for item in fields(FieldSpec) if item.name not in DERIVED},  # type: ignore[misc]
}
"""Name and type of each parameter that can be set, by group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parameters to set, checked; the rest keep the values of the preset."""

    training: Mapping[str, int | float]
    """Fields of `TrainConfig`."""
    field: Mapping[str, int | float]
    """Fields of `FieldSpec`."""

    @classmethod
    def parse(cls, settings: Sequence[str]) -> "Overrides":
        """Read settings of the form GROUP.NAME=VALUE; the last one of a name wins.

        >>> Overrides.parse(["training.grid_lr=0.01", "field.num_levels=10"])
        Overrides(training={'grid_lr': 0.01}, field={'num_levels': 10})

        Raises:
            OptionError: there is no such parameter, or its value is out of range.
        """
        groups: dict[str, dict[str, int | float]] = {"training": {}, "field": {}}
        for setting in settings:
            key, equals, text = setting.partition("=")
            group, _, name = key.strip().partition(".")
            if not equals or group not in groups or not name:
                raise OptionError(f"--set {setting}: not of the form training.NAME=VALUE or field.NAME=VALUE")
            groups[group][name] = _value(setting, group, name, text.strip())
        return cls(training=groups["training"], field=groups["field"])

    def to_json(self) -> dict[str, int | float]:
        """Return all settings by their full names, for a record."""
        groups = {"training": self.training, "field": self.field}
        return {f"{group}.{name}": value for group, known in groups.items() for name, value in sorted(known.items())}


def override_field(spec: FieldSpec, values: Mapping[str, int | float]) -> FieldSpec:
    """Return a field spec with some parameters replaced.

    Raises:
        OptionError: the result is contradictory.
    """
    spec = replace(spec, **values)  # type: ignore[arg-type]
    for low, high in (("near", "far"), ("base_resolution", "max_resolution")):
        if getattr(spec, low) > getattr(spec, high):
            numbers = f"field.{low} {getattr(spec, low):g} exceeds field.{high} {getattr(spec, high):g}"
            raise OptionError(f"--set: {numbers}; set both, or leave them out")
    return spec


def _value(setting: str, group: str, name: str, text: str) -> int | float:
    known = PARAMETERS[group]
    if group == "training" and name in OWN_OPTION:
        raise OptionError(f"--set {setting}: use the option {OWN_OPTION[name]}")
    if group == "field" and name in DERIVED:
        raise OptionError(f"--set {setting}: {name} follows from the block; leave it out")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {group}.{near[0]}?" if near else f"choose from {', '.join(known)}"
        raise OptionError(f"--set {setting}: there is no {group}.{name}; {hint}")
    least, most = _range(name, known[name])
    try:
        number = int(text) if known[name] is int else float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        kind = "a whole number" if known[name] is int else "a number"
        raise OptionError(f"--set {setting}: give {kind} from {least:g} to {most:g}")
    return number


def _range(name: str, kind: Any) -> tuple[float, float]:
    """Return the least and the largest value of a parameter."""
    if name in ("near", "far"):
        return 1e-6, 1e9
    if kind is float:
        return (0.0, 1.0) if name in FRACTIONS else (0.0, 1e9)
    if name == "rays_per_step":
        return 1, MAX_RAYS_PER_STEP
    if name.endswith("log2_hashmap_size"):
        return 1, MAX_LOG2_HASHMAP_SIZE
    if name.endswith("resolution"):
        return (1 if name in ("base_resolution", "max_resolution") else FIXED_BASE_RESOLUTION), 1 << 20
    return (0 if name == "appearance_dim" else 1), 32 if name.endswith("levels") else 1024
