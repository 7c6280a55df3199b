"""What a city is made of (`city.json`), and the settings that it is rendered with."""

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
from blocknerf.partition.block import LONGEST_NAME, Block, is_file_name
from blocknerf.quality import PRESETS, Preset
from blocknerf.values import MAX_COORDINATE, MAX_VALUE, finite, format_value, one_case, positive, whole

CITY_FORMAT = "blocknerf.city/2"

Weighting = Literal["nearest", "inverse_distance_2d", "inverse_distance_3d", "visibility_pixel", "visibility_image"]
"""How the pictures of several blocks are weighed against each other (`blocknerf.city.weighting`)."""

WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)

RENDERING_KEYS = ("weighting", "power", "selection_radius", "visibility_threshold")
"""Keys of city.json that rendering alone depends on."""

_REMEDY = "restore the file, or partition the capture into a new run folder"
_REMEDIES = dict.fromkeys(RENDERING_KEYS, "correct it; the trained blocks stay as they are")


@dataclass(frozen=True, kw_only=True)
class City:
    """The blocks of one run, and how their pictures become one; written once, by partition.

    Not slotted, unlike other facts, because the digest and the index of names are computed once and kept.
    """

    blocks: tuple[Block, ...]
    preset: Preset = "draft"
    test_every: int = 8
    """Every n-th frame of the capture is kept from training and judged; 0 keeps none back."""
    weighting: Weighting = "inverse_distance_2d"
    power: float = 4.0
    """Exponent of the inverse distance; the paper takes 4 for a neighbourhood and 1 for a single street."""
    selection_radius: float = 1.25
    """A block is a candidate while the camera is within this many of its radii of its origin, in plan.

    1.25 is the smallest that hands over as smoothly as any larger one on a route and on a grid, and so looks
    at the fewest blocks: `tests/benchmarks/selection_radius.py`. In the sample town, 99 of 100 blocks within it
    see the view of a camera placed anywhere; 93 within 2 radii do, and 77 within 3: `tests/benchmarks/visibility.py`.
    """
    visibility_threshold: float = 0.02
    """Candidates whose mean predicted visibility for the view lies below this are culled.

    0.02 by `tests/benchmarks/visibility.py`, against the true line of sight in the sample town, whatever the
    distance: of the blocks that see the view of a camera placed anywhere it keeps 94 in 100, and of those it keeps
    83 in 100 see it (for held-out photographs 99 and 90). With 0.05 it is 85 and 86 (99 and 93), without culling
    100 and 72 (100 and 83). A block culled in error takes away what it may be the only one to show, one kept in
    error only costs time: hence the lower.
    """

    def __post_init__(self) -> None:
        for key, complaint in _complaints(self):
            if complaint:
                raise RunError(f"city: {key}: {complaint}; {_REMEDIES.get(key, _REMEDY)}")

    def is_test_frame(self, index: int) -> bool:
        """Whether frame `index` of the capture is kept from training.

        >>> city = City(blocks=(Block(name="b000", origin=(0.0, 0.0, 0.0), radius=1.0),), test_every=4)
        >>> [i for i in range(10) if city.is_test_frame(i)]
        [2, 6]
        """
        return self.test_every > 0 and index % self.test_every == self.test_every // 2

    def block(self, name: str) -> Block:
        """The block of that name.

        Raises:
            RunError: the city has no such block.
        """
        try:
            return self.blocks[self._positions[name]]
        except KeyError:
            known = f"{self.blocks[0].name} to {self.blocks[-1].name}"
            raise RunError(f"city: no block {name!r} among its {len(self.blocks)}; name one of {known}") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what training depends on: blocks, preset and held-out frames.

        Fields carry it, so that a field of another city is noticed. Settings of rendering alone are left out: they
        may change after training.
        """
        trained = {key: value for key, value in _to_json(self).items() if key not in RENDERING_KEYS}
        canonical = json.dumps(trained, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {block.name: i for i, block in enumerate(self.blocks)}


def with_rendering(
    city: City,
    *,
    weighting: Weighting | None = None,
    power: float | None = None,
    selection_radius: float | None = None,
    visibility_threshold: float | None = None,
) -> City:
    """The city with other settings of rendering, where they are given; its trained blocks stay good.

    Raises:
        RunError: a setting is out of range; the message names its option.
    """
    asked = zip(RENDERING_KEYS, (weighting, power, selection_radius, visibility_threshold), strict=True)
    given: dict[str, Any] = {key: value for key, value in asked if value is not None}
    for key, value in given.items():
        if complaint := _rendering_complaint(key, value):
            raise RunError(f"{flag(key)} {complaint}; give another, or leave it out for {getattr(city, key)}")
    return replace(city, **given)


def rendering_settings(city: City) -> dict[str, Any]:
    """How a city's blocks are chosen and weighed, by the keys of `city.json`."""
    return {key: getattr(city, key) for key in RENDERING_KEYS}


def check_file_name(name: str, option: str) -> None:
    """Refuse a name, given as an option like `--appearance`, by which no file can be called.

    Raises:
        RunError: names both.
    """
    if complaint := _not_name(name):
        raise RunError(f"{option} {complaint}; choose another")


def write_city(city: City, path: Path) -> None:
    """Write `city.json`, whole or not at all."""
    write_atomic(path, format_json(_to_json(city)))


def read_city(path: Path) -> City:
    """Read `city.json`, strictly.

    Raises:
        RunError: the file is missing, broken, foreign or newer; the message names file, key and remedy.
    """
    document = read_json(path, "city")
    try:
        return _from_json(document)
    except RunError as error:
        raise RunError(f"{path}: {str(error).removeprefix('city: ')}") from None


def _complaints(city: City) -> Iterator[tuple[str, str | None]]:
    """Each key with what is wrong with it, or None."""
    names = [block.name for block in city.blocks]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    yield "blocks", None if names else "there are none"
    yield "blocks", f"two are named {twice[0]!r}" if twice else None
    for i, block in enumerate(city.blocks):
        key = f"blocks[{i}]"
        yield f"{key}.name", _not_name(block.name)
        near = all(finite(number, MAX_COORDINATE) is not None for number in block.origin)
        yield f"{key}.origin", None if near else f"is not finite, or beyond {MAX_COORDINATE:g}"
        yield f"{key}.radius", _not_positive(block.radius)
    yield (
        "test_every",
        None if city.test_every == 0 or city.test_every > 1 else f"{city.test_every} is neither 0 nor 2 or more",
    )
    yield "preset", None if city.preset in PRESETS else f"{city.preset!r} is none of {', '.join(PRESETS)}"
    yield from ((key, _rendering_complaint(key, value)) for key, value in rendering_settings(city).items())


def _rendering_complaint(key: str, value: Any) -> str | None:
    if key == "weighting":
        return None if value in WEIGHTINGS else f"{value!r} is none of {', '.join(WEIGHTINGS)}"
    if key == "visibility_threshold":
        return None if 0.0 <= value < 0.5 else f"{value} is not from 0 to below 0.5"
    return _not_positive(value)


def _not_name(name: str) -> str | None:
    if len(name) > LONGEST_NAME:
        return f"{format_value(name)} is longer than {LONGEST_NAME} characters"
    return None if is_file_name(name) else f"{format_value(name)} is not letters, digits, '-' and '_'"


def _not_positive(number: float) -> str | None:
    return None if positive(number) is not None else f"{number} is not a positive number"


def _to_json(city: City) -> dict[str, Any]:
    blocks = [{"name": b.name, "origin": [float(x) for x in b.origin], "radius": float(b.radius)} for b in city.blocks]
    settings = rendering_settings(city)
    return {"format": CITY_FORMAT, "preset": city.preset, "test_every": city.test_every, **settings, "blocks": blocks}


def _from_json(document: Mapping[str, Any]) -> City:
    check_format_version(document.get("format"), CITY_FORMAT, "city", _REMEDY)
    _check_keys(document, {"format", *(field.name for field in fields(City))}, "")
    blocks = document["blocks"]
    if not isinstance(blocks, list):
        raise RunError(f"city: blocks: is not a list; {_REMEDY}")
    return City(
        blocks=tuple(_block(block, f"blocks[{i}]") for i, block in enumerate(blocks)),
        preset=one_of(_text(document, "preset"), PRESETS, "city: preset:", remedy=_REMEDY),
        test_every=_integer(document, "test_every"),
        weighting=one_of(_text(document, "weighting"), WEIGHTINGS, "city: weighting:", remedy=_REMEDIES["weighting"]),
        power=_number(document["power"], "power"),
        selection_radius=_number(document["selection_radius"], "selection_radius"),
        visibility_threshold=_number(document["visibility_threshold"], "visibility_threshold"),
    )


def _check_keys(document: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in sorted(document.keys() ^ known):
        complaint = "is missing" if key in known else "is unknown"
        raise RunError(f"city: {prefix}{one_case(key)}: {complaint}; {_REMEDIES.get(key, _REMEDY)}")


def _block(document: object, key: str) -> Block:
    if not isinstance(document, dict):
        raise RunError(f"city: {key}: is not an object; {_REMEDY}")
    _check_keys(document, {"name", "origin", "radius"}, f"{key}.")
    origin = document["origin"]
    if not isinstance(origin, list) or len(origin) != 3:
        raise RunError(f"city: {key}.origin: is not three numbers; {_REMEDY}")
    x, y, z = (_number(value, f"{key}.origin") for value in origin)
    return Block(
        name=_text(document, "name", f"{key}."), origin=(x, y, z), radius=_number(document["radius"], f"{key}.radius")
    )


def _text(document: Mapping[str, Any], key: str, prefix: str = "") -> str:
    value = document[key]
    if not isinstance(value, str):
        raise RunError(f"city: {prefix}{key}: {format_value(value)} is not text; {_REMEDIES.get(key, _REMEDY)}")
    return value


def _integer(document: Mapping[str, Any], key: str) -> int:
    number = whole(document[key])
    if number is None:
        raise RunError(f"city: {key}: {format_value(document[key])} is not a whole number; {_REMEDY}")
    return number


def _number(value: object, key: str) -> float:
    number = finite(value)
    if number is None:
        raise RunError(
            f"city: {key}: {format_value(value)} is not a number below {MAX_VALUE:.2g}; {_REMEDIES.get(key, _REMEDY)}"
        )
    return number
