"""Blocks listed in a JSON or GeoJSON file."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import msgspec

from blocknerf.errors import PlacementError
from blocknerf.geo import geodetic_to_enu
from blocknerf.json_file import Coordinate, JsonFile, Record
from blocknerf.partitioning.block import MAX_NAME_LENGTH, Block, is_file_name
from blocknerf.values import format_value, positive

Position = tuple[float, float, float]
_LonLat = Annotated[list[Coordinate], msgspec.Meta(min_length=2)]


class _Entry(Record, frozen=True, kw_only=True):
    name: str | None = None
    origin: Annotated[list[Coordinate], msgspec.Meta(min_length=2, max_length=3)]
    radius: Coordinate | None = None


class _Point(msgspec.Struct, frozen=True, tag_field="type", tag="Point"):
    coordinates: _LonLat


class _Polygon(msgspec.Struct, frozen=True, tag_field="type", tag="Polygon"):
    coordinates: Annotated[list[Annotated[list[_LonLat], msgspec.Meta(min_length=1)]], msgspec.Meta(min_length=1)]


class _Properties(msgspec.Struct, frozen=True):
    name: str | None = None
    radius: Coordinate | None = None


class _Feature(msgspec.Struct, frozen=True, kw_only=True):
    geometry: _Point | _Polygon
    properties: _Properties | None = None


class _Collection(msgspec.Struct, frozen=True, kw_only=True):
    """An object with `blocks`, or a GeoJSON FeatureCollection."""

    blocks: list[_Entry] | None = None
    features: list[_Feature] | None = None
    crs: Any = None


class _Kind(msgspec.Struct, frozen=True):
    type: Any = None


_LOCAL = {"type": "name", "properties": {"name": "local"}}
_ANY = JsonFile(content=msgspec.Raw, what="blocks", error=PlacementError)
_KIND = JsonFile(content=_Kind, what="blocks", error=PlacementError)
_FILE = JsonFile(content=_Collection, what="blocks", error=PlacementError)


def read_blocks(path: Path, *, radius: float | None, height: float, geo_origin: Position | None = None) -> list[Block]:
    """Read a list of blocks: JSON with name, origin and radius, or GeoJSON points and polygons.

    JSON is a list, or an object with the list under `blocks`. Names are optional ("b000", ...); `radius` is the
    default for entries without one, `height` for origins without a third number. GeoJSON coordinates are longitude
    and latitude, which need a `geo_origin`, unless a `crs` member has the name "local": then they are world
    coordinates. A polygon becomes its enclosing disc.

    Raises:
        PlacementError: the file is invalid; the message names the entry.
    """
    data = bytes(_ANY.read(path)).strip()
    if data.startswith(b"["):
        data = b'{"blocks": ' + data + b"}"
    if _KIND.decode(data, str(path)).type == "Feature":
        data = b'{"features": [' + data + b"]}"
    content = _FILE.decode(data, str(path))
    entries = content.blocks
    if content.features is not None:
        is_local = content.crs == _LOCAL
        if geo_origin is None and not is_local:
            raise PlacementError(
                f"{path}: GeoJSON has longitude and latitude, but the capture has no geographic origin; "
                f'add its gps_origin_lat_lon_alt, or mark world coordinates with "crs": {json.dumps(_LOCAL)}'
            )
        entries = [_entry(feature, None if is_local else geo_origin) for feature in content.features]
    if entries is None:
        raise PlacementError(
            f"{path}: is neither a list of blocks, an object with 'blocks', nor GeoJSON; write one of these"
        )
    if not entries:
        raise PlacementError(f"{path}: lists no blocks; give at least one")
    blocks = [_block(entry, i, path, radius, height) for i, entry in enumerate(entries)]
    _check_distinct(blocks, path)
    return blocks


def _block(entry: _Entry, index: int, path: Path, default_radius: float | None, height: float) -> Block:
    name = f"b{index:03d}" if entry.name is None else entry.name
    if not is_file_name(name):
        raise PlacementError(
            f"{path}: block {index}: name {format_value(name)} is not a folder name; "
            f"use at most {MAX_NAME_LENGTH} letters, digits, '-' and '_'"
        )
    where, radius = f"{path}: block {index} ({name})", default_radius if entry.radius is None else entry.radius
    if radius is None:
        raise PlacementError(f"{where}: radius is missing; add it to the file (or give --radius for all blocks)")
    if positive(radius) is None:
        raise PlacementError(f"{where}: radius {radius:g} is not positive; give it in world units")
    x, y, *rest = entry.origin
    return Block(name=name, origin=(x, y, rest[0] if rest else height), radius=radius)


def _entry(feature: _Feature, geo_origin: Position | None) -> _Entry:
    """Return a GeoJSON feature as an entry of the JSON format, in world coordinates."""
    geometry, properties = feature.geometry, feature.properties or _Properties()
    ring = [geometry.coordinates] if isinstance(geometry, _Point) else geometry.coordinates[0]
    xy = [geodetic_to_enu(x, y, geo_origin) if geo_origin else (x, y) for x, y, *_ in ring]
    center = [(min(axis) + max(axis)) / 2 for axis in zip(*xy, strict=True)]
    enclosing_radius = None if isinstance(geometry, _Point) else max(math.dist(corner, center) for corner in xy)
    radius = enclosing_radius if properties.radius is None else properties.radius
    return _Entry(name=properties.name, origin=center, radius=radius)


def _check_distinct(blocks: list[Block], path: Path) -> None:
    blocks_by_name: dict[str, Block] = {}
    names_by_origin: dict[tuple[float, float], str] = {}
    for block in blocks:
        if block.name in blocks_by_name:
            raise PlacementError(f"{path}: two blocks are named '{block.name}'; rename one")
        other = names_by_origin.setdefault(block.origin[:2], block.name)
        if other != block.name:
            raise PlacementError(f"{path}: '{other}' and '{block.name}' have the same origin; remove one")
        blocks_by_name[block.name] = block
