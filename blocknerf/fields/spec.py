"""The specification of a block's field, stored with its weights."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_origin

from blocknerf.errors import CheckpointError
from blocknerf.options import Preset
from blocknerf.values import MAX_COORDINATE, finite, format_value, positive


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """Sizes of the networks and grids of a block, its position in the world, and the sampling of its rays."""

    origin: tuple[float, float, float]
    """Center of the block's cube in world coordinates."""
    half_extent: float
    """Half the side of the uncontracted cube, in world units."""
    near: float
    """Distance at which rays begin, in world units."""
    far: float
    """Distance at which rays end; everything beyond is sky."""
    frames: tuple[str, ...]
    """Names of the training frames; each has an appearance code."""
    exposure_reference: float
    """Reference exposure; exposures are encoded in stops relative to it."""
    num_levels: int = 8
    features_per_level: int = 4
    log2_hashmap_size: int = 17
    base_resolution: int = 16
    max_resolution: int = 2048
    """Cells along the side of the contracted cube, which is twice as long as the block's cube."""
    hidden_dim: int = 32
    geo_feat_dim: int = 16
    appearance_dim: int = 32
    proposal_num_levels: int = 5
    proposal_log2_hashmap_size: int = 15
    """Levels and resolution are those of nerfacto's second proposal network, with a quarter of its entries."""
    proposal_max_resolution: int = 256
    """A resolution of 1024, 2^17 entries and twice the samples gained 0.25 dB on a street, for 45 % more time."""
    visibility_log2_hashmap_size: int = 14
    visibility_max_resolution: int = 128
    num_proposal_samples: int = 48
    num_samples: int = 24

    @classmethod
    def preset(cls, preset: Preset, **placement: Any) -> "FieldSpec":
        """Return the spec of a preset; `placement` sets the fields without a default."""
        return replace(cls(**placement), **_PRESETS[preset])

    @classmethod
    def from_json(cls, content: object) -> "FieldSpec":
        """Rebuild a spec from `to_json`.

        Raises:
            CheckpointError: a key is missing or unknown, or its value has the wrong type or range.
        """
        if not isinstance(content, dict):
            raise CheckpointError("field spec: not a JSON object; use the version that wrote it")
        known = {field.name: field.type for field in fields(cls)}
        if odd := sorted(known.keys() ^ content.keys()):
            raise CheckpointError(
                f"field spec: key {format_value(odd[0])} is missing or unknown; use the version that wrote it"
            )
        return cls(**{name: _parse_value(name, kind, content[name]) for name, kind in known.items()})

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a dictionary of numbers, strings and tuples."""
        return asdict(self)


def _parse_value(name: str, kind: object, value: Any) -> Any:
    """Return a value with the type of its field, in range; JSON has no tuples, and 5 may be a float."""
    if kind is float:
        number = finite(value, MAX_COORDINATE) if name == "origin" else positive(value)
        if number is not None:
            return number
    least = 0 if name == "appearance_dim" else 1  # without appearance codes, all images look the same
    if kind is int and type(value) is int and least <= value <= _max_value(name):
        return value
    if kind is str and isinstance(value, str):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis or len(kinds) == len(value):
            return tuple(_parse_value(name, kinds[0], item) for item in value)
    raise CheckpointError(f"field spec: {name}: {format_value(value)} is not valid; use the version that wrote it")


def _max_value(name: str) -> int:
    """Return an upper bound that no real field reaches, since a larger field could not be built."""
    return 2**24 if name.endswith("resolution") else 64 if name.endswith("levels") else 4096


_PRESETS: dict[Preset, dict[str, Any]] = {
    "draft": {},
    "standard": {
        "log2_hashmap_size": 19,
        "max_resolution": 4096,
        "hidden_dim": 64,
        "num_proposal_samples": 64,
        "num_samples": 32,
    },
    "fine": {
        "log2_hashmap_size": 21,
        "max_resolution": 8192,
        "hidden_dim": 64,
        "num_proposal_samples": 96,
        "num_samples": 48,
    },
}
