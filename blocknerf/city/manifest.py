"""The blocks of a city and its rendering settings (`city.json`)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from jaxtyping import Float64

from blocknerf.errors import RunError, one_of
from blocknerf.json_file import Count, JsonFile, Number, Record, Vec3, to_builtins
from blocknerf.options import PRESETS, Preset, flag
from blocknerf.partitioning.block import MAX_NAME_LENGTH, Block, is_file_name
from blocknerf.values import MAX_COORDINATE, finite, format_value, positive

CITY_FORMAT = "blocknerf.city/2"

Weighting = Literal["nearest", "inverse_distance_2d", "inverse_distance_3d", "visibility_pixel", "visibility_image"]
"""How the renderings of several blocks are weighted (`blocknerf.city.weighting`)."""

WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

RENDERING_KEYS = ("weighting", "power", "selection_radius", "visibility_threshold")
"""Keys of city.json that affect rendering only."""

_HINT = "restore the file, or partition the capture into a new run folder"
_HINTS = dict.fromkeys(RENDERING_KEYS, "correct it; the trained blocks stay valid")


@dataclass(frozen=True, kw_only=True)
class City:
    """The blocks of one run and how their renderings are blended; written once, by `partition`.

    Not slotted, unlike other dataclasses, because the digest and the index of names are cached.
    """

    blocks: tuple[Block, ...]
    preset: Preset = "draft"
    test_every: int = 8
    """Every n-th instant of the capture is held out for evaluation; 0 holds out none."""
    test_frames: tuple[int, ...] | None = None
    """The held-out frames, as indices into the capture; None, in runs of earlier versions: every n-th frame."""
    weighting: Weighting = "inverse_distance_2d"
    power: float = 4.0
    """Exponent of the inverse distance; the paper uses 4 for a neighborhood and 1 for a single street."""
    selection_radius: float = 1.25
    """A block is a candidate while the camera is within this many of its radii of its origin, horizontally.

    1.25 is the smallest value that blends as smoothly as any larger one on a route and on a grid, and thus loads the
    fewest blocks (`tests/benchmarks/selection_radius.py`). In the sample town, for randomly placed cameras, 99 of 100
    blocks within it see the view; 93 within 2 radii and 77 within 3 (`tests/benchmarks/visibility.py`).
    """
    visibility_threshold: float = 0.02
    """Candidates with a mean predicted visibility below this are culled.

    Measured in the sample town against the true line of sight, at any distance (`tests/benchmarks/visibility.py`).
    For randomly placed cameras, 0.02 keeps 94 in 100 of the blocks that see the view, and 83 in 100 of the kept
    blocks see it (held-out images: 99 and 90). With 0.05 it is 85 and 86 (99 and 93), without culling 100 and 72
    (100 and 83). Wrong culling can remove the only block that shows a surface, wrong keeping only costs time, so
    the lower value is used.
    """

    def __post_init__(self) -> None:
        for key, problem in _problems(self):
            if problem:
                raise RunError(f"city: {key}: {problem}; {_HINTS.get(key, _HINT)}")

    def is_test_frame(self, index: int) -> bool:
        """Return whether frame `index` of the capture is held out from training.

        >>> city = City(blocks=(Block(name="b000", origin=(0.0, 0.0, 0.0), radius=1.0),), test_frames=(2, 6))
        >>> [i for i in range(10) if city.is_test_frame(i)]
        [2, 6]
        """
        if self.test_frames is not None:
            return index in self._test_frames
        return self.test_every > 0 and index % self.test_every == self.test_every // 2

    def block(self, name: str) -> Block:
        """Return the block of a name.

        Raises:
            RunError: the city has no such block.
        """
        try:
            return self.blocks[self._index_of[name]]
        except KeyError:
            known = f"{self.blocks[0].name} to {self.blocks[-1].name}"
            raise RunError(f"city: no block {name!r} among its {len(self.blocks)}; name one of {known}") from None

    def nearest(self, x: float, y: float, count: int) -> list[int]:
        """Return the indices of the blocks with the horizontally nearest origins, nearest first; at most `count`.

        >>> blocks = tuple(Block(name=f"b{i}", origin=(10.0 * i, 0.0, 0.0), radius=10.0) for i in range(4))
        >>> City(blocks=blocks).nearest(21.0, 5.0, 2)
        [2, 3]
        """
        distances = np.hypot(self._origins[:, 0] - x, self._origins[:, 1] - y)
        few = np.argpartition(distances, count)[:count] if count < len(distances) else np.arange(len(distances))
        return few[np.lexsort((few, distances[few]))].tolist()

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north end of the blocks' discs."""
        radii = np.array([[block.radius] for block in self.blocks])
        (west, south), (east, north) = (self._origins - radii).min(0).tolist(), (self._origins + radii).max(0).tolist()
        return west, south, east, north

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the settings that affect training: blocks, preset and test frames.

        Fields store it, so that a field of another city is detected. Rendering settings are not part of it: they may
        change after training.
        """
        settings = to_builtins(_record(self))
        training_settings = {key: value for key, value in settings.items() if key not in RENDERING_KEYS}
        canonical = json.dumps(training_settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def _origins(self) -> Float64[np.ndarray, "blocks 2"]:
        return np.array([block.origin[:2] for block in self.blocks], dtype=np.float64)

    @cached_property
    def _test_frames(self) -> frozenset[int]:
        return frozenset(self.test_frames or ())

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {block.name: i for i, block in enumerate(self.blocks)}


class _BlockRecord(Record, frozen=True, kw_only=True):
    name: str
    origin: Vec3
    radius: Number


class _CityRecord(Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="format", tag=CITY_FORMAT):
    preset: str
    test_every: Count
    test_frames: list[Count] | None = None
    weighting: str
    power: Number
    selection_radius: Number
    visibility_threshold: Number
    blocks: list[_BlockRecord]


_FILE = JsonFile(content=_CityRecord, what="city", remedy=_HINT)


def with_rendering(
    city: City,
    *,
    weighting: Weighting | None = None,
    power: float | None = None,
    selection_radius: float | None = None,
    visibility_threshold: float | None = None,
) -> City:
    """Return the city with other rendering settings; None keeps a setting, and the trained blocks stay valid.

    Raises:
        RunError: a setting is out of range; the message names its option.
    """
    options = zip(RENDERING_KEYS, (weighting, power, selection_radius, visibility_threshold), strict=True)
    changes: dict[str, Any] = {key: value for key, value in options if value is not None}
    for key, value in changes.items():
        if problem := _rendering_problem(key, value):
            raise RunError(f"{flag(key)} {problem}; give another, or omit it for {getattr(city, key)}")
    return replace(city, **changes)


def rendering_settings(city: City) -> dict[str, Any]:
    """Return the rendering settings of a city, by the keys of `city.json`."""
    return {key: getattr(city, key) for key in RENDERING_KEYS}


def check_file_name(name: str, option: str) -> None:
    """Raise if a name, passed for an option like `--appearance`, is not a valid file name.

    Raises:
        RunError: the message names the option and the name.
    """
    if problem := _name_problem(name):
        raise RunError(f"{option} {problem}; choose another")


def write_city(city: City, path: Path) -> None:
    """Write `city.json` atomically."""
    _FILE.write(_record(city), path)


def read_city(path: Path) -> City:
    """Read `city.json`; unknown and missing keys are errors.

    Raises:
        RunError: the file is missing, broken, of another format or newer; the message names file, key and hint.
    """
    record = _FILE.read(path)
    blocks = tuple(Block(**msgspec.structs.asdict(block)) for block in record.blocks)
    try:
        settings = msgspec.structs.asdict(record) | {
            "blocks": blocks,
            "test_frames": None if record.test_frames is None else tuple(record.test_frames),
            "preset": one_of(record.preset, PRESETS, "preset:", remedy=_HINT),
            "weighting": one_of(record.weighting, WEIGHTINGS, "weighting:", remedy=_HINTS["weighting"]),
        }
        return City(**settings)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('city: ')}") from None


def _problems(city: City) -> Iterator[tuple[str, str | None]]:
    """Yield each key with its problem, or None if it is valid."""
    names = [block.name for block in city.blocks]
    duplicates = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    yield "blocks", None if names else "there are none"
    yield "blocks", f"two are named {duplicates[0]!r}" if duplicates else None
    for i, block in enumerate(city.blocks):
        key = f"blocks[{i}]"
        yield f"{key}.name", _name_problem(block.name)
        in_range = all(finite(number, MAX_COORDINATE) is not None for number in block.origin)
        yield f"{key}.origin", None if in_range else f"is not finite, or beyond {MAX_COORDINATE:g}"
        yield f"{key}.radius", _positive_problem(block.radius)
    yield (
        "test_every",
        None if city.test_every == 0 or city.test_every > 1 else f"{city.test_every} is neither 0 nor 2 or more",
    )
    yield "preset", None if city.preset in PRESETS else f"{city.preset!r} is none of {', '.join(PRESETS)}"
    yield from ((key, _rendering_problem(key, value)) for key, value in rendering_settings(city).items())


def _rendering_problem(key: str, value: Any) -> str | None:
    if key == "weighting":
        return None if value in WEIGHTINGS else f"{value!r} is none of {', '.join(WEIGHTINGS)}"
    if key == "visibility_threshold":
        return None if 0.0 <= value < 0.5 else f"{value} is not from 0 to below 0.5"
    return _positive_problem(value)


def _name_problem(name: str) -> str | None:
    if len(name) > MAX_NAME_LENGTH:
        return f"{format_value(name)} is longer than {MAX_NAME_LENGTH} characters"
    return None if is_file_name(name) else f"{format_value(name)} is not letters, digits, '-' and '_'"


def _positive_problem(number: float) -> str | None:
    return None if positive(number) is not None else f"{number} is not a positive number"


def _record(city: City) -> _CityRecord:
    """Return the content of `city.json`."""
    blocks = [_block_record(block) for block in city.blocks]
    settings = rendering_settings(city)
    # None is not written: runs of earlier versions have no such key, and their fields store the digest of city.json.
    test_frames = None if city.test_frames is None else list(city.test_frames)
    return _CityRecord(
        preset=city.preset, test_every=city.test_every, test_frames=test_frames, **settings, blocks=blocks
    )


def _block_record(block: Block) -> _BlockRecord:
    """Return a block with floats, so that equal blocks give equal digests."""
    x, y, z = map(float, block.origin)
    return _BlockRecord(name=block.name, origin=(x, y, z), radius=float(block.radius))
