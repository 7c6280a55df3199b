"""Blocks files: both formats, their defaults, and invalid content."""

import json
from pathlib import Path
from typing import Any

import pytest

from blocknerf.errors import PlacementError
from blocknerf.partitioning.blocks_file import read_blocks

KARLSRUHE = (49.0, 8.4, 112.0)


@pytest.fixture
def blocks_file(tmp_path: Path):
    def write(content: Any) -> Path:
        path = tmp_path / "blocks.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


LOCAL = {"type": "name", "properties": {"name": "local"}}


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **members}


def test_json_with_and_without_defaults(blocks_file) -> None:
    entries = [{"name": "plaza", "origin": [1, 2, 3], "radius": 4}, {"origin": [5, 6]}]
    for content in (entries, {"blocks": entries}):
        plaza, second = read_blocks(blocks_file(content), radius=7.0, height=1.5)
        assert (plaza.name, plaza.origin, plaza.radius) == ("plaza", (1.0, 2.0, 3.0), 4.0)
        assert (second.name, second.origin, second.radius) == ("b001", (5.0, 6.0, 1.5), 7.0)


def test_geojson_in_degrees_for_a_georeferenced_capture(blocks_file) -> None:
    path = blocks_file(collection(feature("Point", [8.401, 49.001, 120.0], name="north-east", radius=30)))
    (block,) = read_blocks(path, radius=None, height=0.0, geo_origin=KARLSRUHE)
    assert block.name == "north-east"
    assert block.origin == pytest.approx((73.1, 111.2, 0.0), abs=0.1)


def test_geojson_polygons_become_their_enclosing_disc(blocks_file) -> None:
    square = [[[0, 0], [6, 0], [6, 8], [0, 8], [0, 0]]]
    (block,) = read_blocks(blocks_file(collection(feature("Polygon", square), crs=LOCAL)), radius=99.0, height=2.0)
    assert (block.origin, block.radius) == ((3.0, 4.0, 2.0), 5.0)


def test_geojson_in_degrees_needs_a_georeferenced_capture(blocks_file) -> None:
    for content in (feature("Point", [9.5, 47.5]), collection(feature("Point", [9.5, 47.5]))):
        with pytest.raises(PlacementError, match=r"but the capture has no geographic origin; .*local"):
            read_blocks(blocks_file(content), radius=30.0, height=0.0)


def test_local_geojson_stays_local_in_a_georeferenced_capture(blocks_file) -> None:
    path = blocks_file(collection(feature("Point", [5, 6]), crs=LOCAL))
    (block,) = read_blocks(path, radius=3.0, height=0.0, geo_origin=KARLSRUHE)
    assert block.origin == (5.0, 6.0, 0.0)


BLOCK = {"origin": [0, 0], "radius": 1}
INVALID = {
    "no valid JSON": ('{"blocks": [', "not valid JSON"),
    "a number": ("7", "is 7, not an object"),
    "no blocks": ([], "lists no blocks"),
    "not an object": ([3], r"blocks\[0\] is 3, not an object"),
    "unknown key": ([BLOCK | {"size": 3}], "size is an unknown key"),
    "no radius": ([{"origin": [0, 0]}], "radius is missing"),
    "zero radius": ([BLOCK | {"radius": 0}], "not positive"),
    "infinite radius": (
        "[" + json.dumps(BLOCK | {"radius": float("inf")}) + "]",
        r"\[0\]\.radius is not a finite",
    ),
    "text as radius": ([BLOCK | {"radius": "3"}], "radius is '3', not a number"),
    "no origin": ([{"radius": 3}], "origin is missing"),
    "text in the origin": ([BLOCK | {"origin": [0, "x"]}], r"origin\[1\] is 'x', not a number"),
    "a name that is a path": ([BLOCK | {"name": "../x"}], "is not a folder name"),
    "an empty name": ([BLOCK | {"name": ""}], "is not a folder name"),
    "a name twice": ([BLOCK | {"name": "a"}, {"name": "a", "origin": [5, 5], "radius": 1}], "two blocks are named"),
    "an origin twice": ([BLOCK, BLOCK], "have the same origin"),
    "a line": (
        collection(feature("LineString", [[0, 0], [1, 1]], radius=3)),
        "type is 'LineString', not a known",
    ),
    "no geometry": (collection({"type": "Feature"}), "geometry is missing"),
    "no coordinates": (collection(feature("Polygon", [], radius=3)), "coordinates is .*, not a list of length >= 1"),
    "features that are no list": ({"type": "FeatureCollection", "features": 3}, "features is 3, not a list"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_files_raise_one_line(blocks_file, name: str) -> None:
    content, message = INVALID[name]
    with pytest.raises(PlacementError, match=message) as raised:
        read_blocks(blocks_file(content), radius=None, height=0.0)
    assert "\n" not in str(raised.value)
    assert "blocks.json" in str(raised.value)


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="does not exist"):
        read_blocks(tmp_path / "none.json", radius=None, height=0.0)
