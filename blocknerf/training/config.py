"""Training configuration of a block, and parameters set by name: `training.grid_lr=0.01`, `field.num_levels=10`."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from blocknerf.errors import OptionError
from blocknerf.fields.block_field import SMALL_GRID_BASE
from blocknerf.fields.spec import FieldSpec
from blocknerf.options import Preset

RAYS_PER_STEP: dict[Preset, int] = {"draft": 2048, "standard": 8192, "fine": 16_384}
"""Rays per step. Small steps learn more from the same rays, as long as a step's fixed cost is small in comparison."""
PIXEL_PASSES: dict[Preset, float] = {"draft": 0.7, "standard": 8.0, "fine": 30.0}
"""Training rays per pixel of the block."""
POSE_RESTARTS = 3
"""Rounds of pose refinement when segments are divided into pose segments; otherwise one round is enough.

Measured by `tests/benchmarks/paper`: of the PSNR that the raw poses of segment 0005 cost, three rounds recover 61 %
and one recovers 33 %. When each segment of the sample town is displaced as a whole, three rounds leave 1.5 cm and one
leaves 1.9 cm, and image quality is the same.
"""
POSE_STEPS = 900
"""Maximum steps of a pose-only round: 3,300 steps are no better (segment 0005, raw poses: 14.6 and 14.3 cm)."""
STEP_BOUNDS: dict[Preset, tuple[int, int]] = {
    "draft": (900, 6000),
    "standard": (8000, 40_000),
    "fine": (30_000, 200_000),
}
"""Minimum and maximum number of steps, by preset."""

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
MAX_LOG2_HASHMAP_SIZE = 24
"""Entries per level as a power of two: more does not fit any GPU."""
MAX_RAYS_PER_STEP = 1 << 20
"""64 times those of the largest preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Training options of one block. `FieldSpec` has the options of the field itself."""

    steps: int
    """Optimization steps of the final round, which trains the field that is saved."""
    rays_per_step: int = 2048
    """Rays per step."""
    downscale: int = 1
    """Factor by which images are downscaled."""
    grid_lr: float = 5e-2
    """Initial learning rate of the hash tables."""
    mlp_lr: float = 1e-2
    """Initial learning rate of the MLPs."""
    appearance_lr: float = 5e-4
    """Initial learning rate of the appearance codes."""
    lr_final_ratio: float = 0.3
    """Ratio of the final to the initial learning rate in short trainings; the decay is exponential.

    Measured against 0.05, which lowers the rate of a short training too early: LLFF fern at half size, 1,000 steps of
    1,024 rays, 26.25 and 25.60 dB, SSIM 0.833 and 0.803; 22 m of the sample town, 900 steps, 25.33 and 24.96 dB.
    """
    lr_decay_steps: float = 600.0
    """Steps times the ratio of the final to the initial learning rate in longer trainings.

    Adam moves a parameter by up to the rate in every step, so what counts at the end is the rate times the steps.
    Measured at 2,400 steps of 512 rays (fern at half size): 27.01 dB and SSIM 0.859 with this ratio of 0.25, 26.81 dB
    and 0.844 with 0.05. Longer trainings have not been measured.
    """
    distortion_weight: float = 0.002
    """Weight of the distortion loss, which makes surfaces thin; nerfacto's value."""
    depth_weight: float = 0.005
    """Weight of the depth losses, for rays with a measured depth.

    Measured on a street with merged LiDAR sweeps: 20 times as much costs 3.9 dB; without, images are 0.2 dB better but
    less sharp.
    """
    sky_weight: float = 0.01
    """Weight of the sky loss, for frames with a sky mask: wrong opacity everywhere costs as much as 20 dB in color."""
    appearance_reg: float = 1e-2
    """Weight of the squared appearance codes, which keeps them near zero: codes of order one cost as much as 20 dB in
    color, codes of the usual 0.01 to 0.02 next to nothing."""
    depth_ray_fraction: float = 0.25
    """Fraction of rays drawn through measured points, if there are any."""
    pose_refinement: bool = False
    """Whether to refine the poses during training, with one correction per pose segment."""
    pose_segment_length: float = 0.0
    """Approximate path length of a pose segment, in world units; 0 means one correction per segment."""
    pose_restarts: int = 1
    """Rounds of pose refinement; each trains a new field, starting from the poses of the previous round."""
    robust_trim: float = 0.0
    """Fraction of rays treated as outliers by error; they are ignored where their neighborhood has outliers too."""
    image_cache_bytes: int = 1 << 30
    """Bytes of memory for the image cache."""
    seed: int = 0
    """Random seed."""

    def final_ratio(self, steps: int) -> float:
        """Return the ratio of the final to the initial learning rate of a round of `steps` steps.

        >>> [TrainConfig(steps=6000).final_ratio(steps) for steps in (900, 6000, 60_000)]
        [0.3, 0.1, 0.01]
        """
        return min(self.lr_final_ratio, self.lr_decay_steps / steps)

    @property
    def pose_steps(self) -> int:
        """Steps of each round before the last; these rounds only refine poses."""
        return min(self.steps, POSE_STEPS)

    @property
    def total_steps(self) -> int:
        """Total steps of all rounds."""
        return self.steps + (self.pose_restarts - 1) * self.pose_steps

    @classmethod
    def preset(cls, preset: Preset, *, pixels: int, steps: int | None = None, **overrides: Any) -> "TrainConfig":
        """Return the configuration of a preset for a block with `pixels` pixels, with overrides."""
        rays = overrides.pop("rays_per_step", RAYS_PER_STEP[preset])
        return cls(steps=steps or default_steps(preset, pixels, rays), rays_per_step=rays, **overrides)


def default_steps(preset: Preset, pixels: int, rays_per_step: int | None = None) -> int:
    """Return the steps that draw each pixel `PIXEL_PASSES` times on average, within `STEP_BOUNDS`.

    >>> default_steps("draft", pixels=4_000_000)
    1367
    """
    lower, upper = STEP_BOUNDS[preset]
    return min(max(int(PIXEL_PASSES[preset] * pixels / (rays_per_step or RAYS_PER_STEP[preset])), lower), upper)


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
        return (1 if name in ("base_resolution", "max_resolution") else SMALL_GRID_BASE), 1 << 20
    return (0 if name == "appearance_dim" else 1), 32 if name.endswith("levels") else 1024
