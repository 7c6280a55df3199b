"""The blocks of a city and its rendering settings (`city.json`)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from blocknerf.errors import RunError, one_of
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.options import flag
from blocknerf.partitioning.block import MAX_NAME_LENGTH, Block, is_file_name
from blocknerf.quality import PRESETS, Preset
from blocknerf.values import MAX_COORDINATE, MAX_VALUE, finite, format_value, one_case, positive, whole

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

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the settings that affect training: blocks, preset and test frames.

        Fields store it, so that a field of another city is detected. Rendering settings are not part of it: they may
        change after training.
        """
        training_settings = {key: value for key, value in _to_json(self).items() if key not in RENDERING_KEYS}
        canonical = json.dumps(training_settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def _test_frames(self) -> frozenset[int]:
        return frozenset(self.test_frames or ())

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {block.name: i for i, block in enumerate(self.blocks)}


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
    write_atomic(path, format_json(_to_json(city)))


def read_city(path: Path) -> City:
    """Read `city.json`; unknown and missing keys are errors.

    Raises:
        RunError: the file is missing, broken, of another format or newer; the message names file, key and hint.
    """
    document = read_json(path, "city")
    try:
        return _from_json(document)
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


def _to_json(city: City) -> dict[str, Any]:
    blocks = [{"name": b.name, "origin": [float(x) for x in b.origin], "radius": float(b.radius)} for b in city.blocks]
    settings = rendering_settings(city)
    # Without the key for runs of earlier versions: their fields store the digest of city.json.
    test_frames = {} if city.test_frames is None else {"test_frames": list(city.test_frames)}
    settings = {"preset": city.preset, "test_every": city.test_every, **test_frames, **settings}
    return {"format": CITY_FORMAT, **settings, "blocks": blocks}


def _from_json(document: Mapping[str, Any]) -> City:
    check_format_version(document.get("format"), CITY_FORMAT, "city", _HINT)
    added = {"test_frames"} - document.keys()
    _check_keys(document, {"format", *(field.name for field in fields(City))} - added, "")
    blocks = document["blocks"]
    if not isinstance(blocks, list):
        raise RunError(f"city: blocks: is not a list; {_HINT}")
    return City(
        blocks=tuple(_block(block, f"blocks[{i}]") for i, block in enumerate(blocks)),
        preset=one_of(_text(document, "preset"), PRESETS, "city: preset:", remedy=_HINT),
        test_every=_integer(document, "test_every"),
        test_frames=_indices(document["test_frames"]) if not added else None,
        weighting=one_of(_text(document, "weighting"), WEIGHTINGS, "city: weighting:", remedy=_HINTS["weighting"]),
        power=_number(document["power"], "power"),
        selection_radius=_number(document["selection_radius"], "selection_radius"),
        visibility_threshold=_number(document["visibility_threshold"], "visibility_threshold"),
    )


def _indices(value: object) -> tuple[int, ...]:
    indices = [whole(index) for index in value] if isinstance(value, list) else [None]
    if None in indices:
        raise RunError(f"city: test_frames: is not a list of whole numbers; {_HINT}")
    return tuple(index for index in indices if index is not None)


def _check_keys(document: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in sorted(document.keys() ^ known):
        problem = "is missing" if key in known else "is unknown"
        raise RunError(f"city: {prefix}{one_case(key)}: {problem}; {_HINTS.get(key, _HINT)}")


def _block(document: object, key: str) -> Block:
    if not isinstance(document, dict):
        raise RunError(f"city: {key}: is not an object; {_HINT}")
    _check_keys(document, {"name", "origin", "radius"}, f"{key}.")
    origin = document["origin"]
    if not isinstance(origin, list) or len(origin) != 3:
        raise RunError(f"city: {key}.origin: is not three numbers; {_HINT}")
    x, y, z = (_number(value, f"{key}.origin") for value in origin)
    return Block(
        name=_text(document, "name", f"{key}."), origin=(x, y, z), radius=_number(document["radius"], f"{key}.radius")
    )


def _text(document: Mapping[str, Any], key: str, prefix: str = "") -> str:
    value = document[key]
    if not isinstance(value, str):
        raise RunError(f"city: {prefix}{key}: {format_value(value)} is not text; {_HINTS.get(key, _HINT)}")
    return value


def _integer(document: Mapping[str, Any], key: str) -> int:
    number = whole(document[key])
    if number is None:
        raise RunError(f"city: {key}: {format_value(document[key])} is not a whole number; {_HINT}")
    return number


def _number(value: object, key: str) -> float:
    number = finite(value)
    if number is None:
        raise RunError(
            f"city: {key}: {format_value(value)} is not a number below {MAX_VALUE:.2g}; {_HINTS.get(key, _HINT)}"
        )
    return number
