"""Blocks listed in a JSON or GeoJSON file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocknerf.errors import PlacementError
from blocknerf.files import read_json_value
from blocknerf.geo import geodetic_to_enu
from blocknerf.partitioning.block import MAX_NAME_LENGTH, Block, is_file_name
from blocknerf.values import MAX_COORDINATE, finite, format_value, positive

Position = tuple[float, float, float]


def read_blocks(path: Path, *, radius: float | None, height: float, geo_origin: Position | None = None) -> list[Block]:
    """Read a list of blocks: JSON with name, origin and radius, or GeoJSON points and polygons.

    JSON is a list, or an object with the list under `blocks`. Names are optional ("b000", ...); `radius` is the
    default for entries without one, `height` for origins without a third number. GeoJSON coordinates are longitude
    and latitude if the capture has a `geo_origin`, unless a `crs` member has the name "local"; without a `geo_origin`
    they are world coordinates. A polygon becomes its enclosing disc.

    Raises:
        PlacementError: the file is invalid; the message names the entry.
    """
    content = read_json_value(path, "blocks", PlacementError)
    geographic = isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")
    entries = _features(content, path, geo_origin) if geographic else _entries(content, path)
    if not entries:
        raise PlacementError(f"{path}: lists no blocks; give at least one")
    blocks = [_block(entry, i, path, radius, height) for i, entry in enumerate(entries)]
    _check_distinct(blocks, path)
    return blocks


def _entries(content: Any, path: Path) -> Sequence[Any]:
    items = content.get("blocks") if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise PlacementError(
            f"{path}: is neither a list of blocks, an object with 'blocks', nor GeoJSON; write one of these"
        )
    return items


def _block(entry: Any, index: int, path: Path, radius: float | None, height: float) -> Block:
    where = f"{path}: block {index}"
    if not isinstance(entry, dict):
        raise PlacementError(f"{where}: is not an object; give name, origin and radius")
    if unknown := sorted(entry.keys() - {"name", "origin", "radius"}):
        raise PlacementError(f"{where}: unknown key {format_value(unknown[0])}; use name, origin and radius")
    name = entry.get("name", f"b{index:03d}")
    if not is_file_name(name):
        raise PlacementError(
            f"{where}: name {format_value(name)} is not a folder name; "
            f"use at most {MAX_NAME_LENGTH} letters, digits, '-' and '_'"
        )
    block_radius = _number(entry.get("radius", radius), f"{where} ({name}): radius")
    if positive(block_radius) is None:
        raise PlacementError(f"{where} ({name}): radius {block_radius:g} is not positive; give it in world units")
    origin = entry.get("origin")
    if not isinstance(origin, list) or len(origin) not in (2, 3):
        raise PlacementError(
            f"{where} ({name}): origin is not a list of two or three numbers; give [x, y] or [x, y, z]"
        )
    x, y, *rest = (_number(value, f"{where} ({name}): origin") for value in origin)
    return Block(name=name, origin=(x, y, rest[0] if rest else height), radius=block_radius)


def _number(value: Any, where: str) -> float:
    number = finite(value, MAX_COORDINATE)
    if number is None:
        problem = (
            "is missing" if value is None else f"{format_value(value)} is not a finite number below {MAX_COORDINATE:g}"
        )
        raise PlacementError(f"{where} {problem}; add it to the file (or give --radius for all blocks)")
    return number


def _features(content: dict[str, Any], path: Path, geo_origin: Position | None) -> list[Any]:
    """Return the GeoJSON features as entries of the JSON format, in world coordinates."""
    features = content.get("features", [content])
    if not isinstance(features, list):
        raise PlacementError(f"{path}: 'features' is not a list; give a GeoJSON FeatureCollection")
    crs = content.get("crs")
    local = crs == {"type": "name", "properties": {"name": "local"}}
    return [
        _feature(feature, f"{path}: block {i}", None if local else geo_origin) for i, feature in enumerate(features)
    ]


def _feature(feature: Any, where: str, geo_origin: Position | None) -> dict[str, Any]:
    value = feature.get("geometry") if isinstance(feature, dict) else None
    geometry: dict[str, Any] = value if isinstance(value, dict) else {}
    kind = geometry.get("type")
    if kind not in ("Point", "Polygon"):
        raise PlacementError(f"{where}: geometry is {format_value(kind)}; give a Point or a Polygon")
    items = geometry.get("coordinates")
    ring = [items] if kind == "Point" else items[0] if isinstance(items, list) and items else None
    if (
        not isinstance(ring, list)
        or not ring
        or not all(isinstance(corner, list) and len(corner) >= 2 for corner in ring)
    ):
        raise PlacementError(f"{where}: coordinates are not those of a {kind}; give longitude and latitude pairs")
    corners = [(_number(x, f"{where}: coordinates"), _number(y, f"{where}: coordinates")) for x, y, *_ in ring]
    xy = [geodetic_to_enu(x, y, geo_origin) for x, y in corners] if geo_origin else corners
    center = [(min(axis) + max(axis)) / 2 for axis in zip(*xy, strict=True)]
    enclosing_radius = max(math.dist(corner, center) for corner in xy)
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    entry: dict[str, Any] = {"origin": center} | {
        key: properties[key] for key in ("name", "radius") if key in properties
    }
    return entry if "radius" in entry or kind == "Point" else entry | {"radius": enclosing_radius}


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
