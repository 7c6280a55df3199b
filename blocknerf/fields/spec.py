"""The specification of a block's field, stored with its weights."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any

import msgspec

from blocknerf.errors import CheckpointError
from blocknerf.json_file import Coordinate, JsonFile, Positive, Record
from blocknerf.options import Preset


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
    """Exposure at which the networks give colors; others are a gain relative to it."""
    num_levels: int = 8
    features_per_level: int = 4
    log2_hashmap_size: int = 17
    base_resolution: int = 16
    max_resolution: int = 2048
    """Cells along the side of the contracted cube, which is twice as long as the block's cube."""
    hidden_dim: int = 32
    geo_feat_dim: int = 16
    appearance_dim: int = 32
    """0: without appearance codes, all images look the same."""
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
    def from_json(cls, text: str) -> "FieldSpec":
        """Rebuild a spec from the JSON of `to_json`.

        Raises:
            CheckpointError: a key is missing or unknown, or its value has the wrong type or range.
        """
        return cls(**msgspec.structs.asdict(_FILE.decode(text.encode(), "field spec")))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a dictionary of numbers, strings and tuples."""
        return asdict(self)


def _bounded(name: str, kind: Any) -> Any:
    """Return the type of a field with bounds that every real field keeps, since a larger one could not be built."""
    if name == "origin":
        return tuple[Coordinate, Coordinate, Coordinate]
    most = 2**24 if name.endswith("resolution") else 64 if name.endswith("levels") else 4096
    size = Annotated[int, msgspec.Meta(ge=0 if name == "appearance_dim" else 1, le=most)]
    return {float: Positive, int: size}.get(kind, kind)


_FILE = JsonFile(
    content=msgspec.defstruct(
        "FieldSpecRecord",  # unlike in memory, no key may be absent
        [(field.name, _bounded(field.name, field.type)) for field in fields(FieldSpec)],
        bases=(Record,),
        frozen=True,
    ),
    what="field spec",
    remedy="use the version that wrote it",
    error=CheckpointError,
)

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
