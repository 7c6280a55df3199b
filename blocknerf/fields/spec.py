"""Everything that fixes the shape of a block's field, stored with its weights."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_origin

from blocknerf.errors import CheckpointError
from blocknerf.quality import Preset
from blocknerf.values import MAX_COORDINATE, finite, format_value, positive


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """Shape of one block's networks and grids, its place in the world, and how its rays are sampled."""

    origin: tuple[float, float, float]
    """Centre of the block's cube in world coordinates."""
    half_extent: float
    """Half the side of the cube that is not contracted, in world units."""
    near: float
    """Where rays begin, in world units."""
    far: float
    """Where rays end; what lies beyond is sky."""
    frames: tuple[str, ...]
    """Names of the training frames, one appearance code each."""
    exposure_reference: float
    """Exposure that counts as one; exposures are encoded in stops from it."""
    num_levels: int = 8
    features_per_level: int = 4
    log2_hashmap_size: int = 17
    base_resolution: int = 16
    max_resolution: int = 2048
    """Cells along the side of the contracted cube, which is twice the block's."""
    hidden_dim: int = 32
    geo_feat_dim: int = 16
    appearance_dim: int = 32
    proposal_num_levels: int = 5
    proposal_log2_hashmap_size: int = 15
    proposal_max_resolution: int = 256
    visibility_log2_hashmap_size: int = 14
    visibility_max_resolution: int = 128
    num_proposal_samples: int = 48
    num_samples: int = 24

    @classmethod
    def preset(cls, preset: Preset, **placement: Any) -> "FieldSpec":
        """The spec of a preset; `placement` gives the fields that have no default."""
        return replace(cls(**placement), **_PRESETS[preset])

    @classmethod
    def from_json(cls, content: object) -> "FieldSpec":
        """Rebuild a spec from its stored form.

        Raises:
            CheckpointError: A key is missing or unknown, or its value is of another kind.
        """
        if not isinstance(content, dict):
            raise CheckpointError("field spec: it is not a JSON object; use the version that wrote it")
        known = {field.name: field.type for field in fields(cls)}
        if odd := sorted(known.keys() ^ content.keys()):
            raise CheckpointError(
                f"field spec: key {format_value(odd[0])} is missing or unknown; use the version that wrote it"
            )
        return cls(**{name: _stored(name, kind, content[name]) for name, kind in known.items()})

    def to_json(self) -> dict[str, Any]:
        """The spec as plain numbers, strings and lists."""
        return asdict(self)


def _stored(name: str, kind: object, value: Any) -> Any:
    """A value as its field wants it, in range: JSON knows neither tuples nor whether 5 is a float."""
    if kind is float:
        number = finite(value, MAX_COORDINATE) if name == "origin" else positive(value)
        if number is not None:
            return number
    least = 0 if name == "appearance_dim" else 1  # a field without codes shows every image alike
    if kind is int and type(value) is int and least <= value <= _largest(name):
        return value
    if kind is str and isinstance(value, str):
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis or len(kinds) == len(value):
            return tuple(_stored(name, kinds[0], item) for item in value)
    raise CheckpointError(f"field spec: {name}: {format_value(value)} does not fit; use the version that wrote it")


def _largest(name: str) -> int:
    """Beyond what any field has; with more, building one would not end."""
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
