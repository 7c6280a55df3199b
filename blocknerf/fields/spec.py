"""Everything that fixes the shape of a block's field, stored with its weights."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from blocknerf.errors import CheckpointError
from blocknerf.presets import Preset


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
    levels: int = 8
    features: int = 4
    log2_table: int = 17
    base_resolution: int = 16
    finest_resolution: int = 2048
    """Cells along the side of the contracted cube, which is twice the block's."""
    hidden: int = 32
    geometry_features: int = 16
    code_size: int = 32
    proposal_levels: int = 5
    proposal_log2_table: int = 15
    proposal_finest_resolution: int = 256
    visibility_log2_table: int = 14
    visibility_finest_resolution: int = 128
    proposal_samples: int = 48
    samples: int = 24

    @classmethod
    def preset(cls, preset: Preset, **placement: Any) -> "FieldSpec":
        """The spec of a preset; `placement` gives the fields that have no default."""
        return replace(cls(**placement), **_PRESETS[preset])

    @classmethod
    def from_json(cls, content: dict) -> "FieldSpec":
        """Rebuild a spec from its stored form.

        Raises:
            CheckpointError: A key is missing or unknown.
        """
        known = {field.name for field in fields(cls)}
        if odd := sorted(known ^ set(content)):
            raise CheckpointError(f"field spec: key '{odd[0]}' is missing or unknown; use the version that wrote it")
        return cls(**{**content, "origin": tuple(content["origin"]), "frames": tuple(content["frames"])})

    def to_json(self) -> dict:
        """The spec as plain numbers, strings and lists."""
        return asdict(self)


_PRESETS: dict[Preset, dict[str, Any]] = {
    "draft": {},
    "standard": {"log2_table": 19, "finest_resolution": 4096, "hidden": 64, "proposal_samples": 64, "samples": 32},
    "fine": {"log2_table": 21, "finest_resolution": 8192, "hidden": 64, "proposal_samples": 96, "samples": 48},
}
