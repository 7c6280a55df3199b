"""Streets from OpenStreetMap extracts: streets, junctions and errors."""

import bz2
import gzip
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from blocknerf.errors import PlacementError
from blocknerf.partitioning.intersection_placement import place_intersections
from blocknerf.partitioning.street_map import read_streets
from blocknerf.partitioning.street_network import densify, line_length, substring
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml
from blocknerf.town.streets import SIDE_AT

pytest.importorskip("osmnx", reason="needs osmnx, the extra 'streets'")

METERS_PER_DEGREE = 111_319.49
"""Meters per degree of longitude at the equator, the location of the test maps."""
Way = tuple[Sequence[tuple[float, float]], dict[str, str]]


@pytest.fixture
def write_map(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a map of ways, in meters from latitude and longitude zero."""

    def write(*ways: Way) -> Path:
        vertices = list(dict.fromkeys(point for points, _ in ways for point in points))
        nodes = [
            f'<node id="{i}" lat="{y / 110_574.3}" lon="{x / METERS_PER_DEGREE}"/>'
            for i, (x, y) in enumerate(vertices, 1)
        ]
        lines = []
        for i, (points, tags) in enumerate(ways, 1):
            children = [f'<nd ref="{vertices.index(point) + 1}"/>' for point in points]
            children += [f'<tag k="{key}" v="{value}"/>' for key, value in tags.items()]
            lines.append(f'<way id="{i}">{"".join(children)}</way>')
        path = tmp_path / "map.osm"
        path.write_text(f'<osm version="0.6">{"".join(nodes + lines)}</osm>')
        return path

    return write


def street(*points: tuple[float, float], **tags: str) -> Way:
    return points, {"highway": "residential", **tags}


def crossings(path: Path) -> list[list[float]]:
    """Return the positions of nodes of degree three or more, rounded to meters."""
    network = read_streets(path, (0.0, 0.0, 0.0))
    return sorted(network.nodes[node].round().tolist() for node, degree in network.degrees().items() if degree > 2)


def test_sample_town_intersections(tmp_path: Path) -> None:
    path = tmp_path / "streets.osm"
    path.write_text(osm_xml())
    network = read_streets(path, GEO_ORIGIN)
    intersections = sorted(network.nodes[node].tolist() for node, degree in network.degrees().items() if degree > 2)
    assert np.abs(np.array(intersections) - [(-SIDE_AT, 0.0), (SIDE_AT, 0.0)]).max() < 1e-3
    assert sorted(network.degrees().values()) == [1] * 6 + [4] * 2
    assert sum(line_length(street.line) for street in network.streets) == pytest.approx(320.0, abs=0.01)


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".osm", bytes), (".osm.bz2", bz2.compress), (".osm.gz", gzip.compress)]
)
def test_compressed_maps_are_read(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"town{suffix}"
    path.write_bytes(compress(osm_xml().encode()))
    assert len(read_streets(path, GEO_ORIGIN).streets) == 7


def test_only_streets_are_used(write_map) -> None:
    main = street((-90, 0), (0, 0), (90, 0))
    for tags in (
        {"highway": "footway"},
        {"highway": "service", "service": "driveway"},
        {"highway": "service", "access": "private"},
        {"highway": "pedestrian", "area": "yes"},
        {"building": "yes"},
    ):
        assert crossings(write_map(main, (((0, 0), (0, 90)), tags))) == []
    for kind in ("residential", "living_street", "service", "primary_link"):
        assert crossings(write_map(main, street((0, 0), (0, 90), highway=kind))) == [[0.0, 0.0]]


def test_one_way_streets_and_split_ways(write_map) -> None:
    path = write_map(
        street((-90, 0), (0, 0), oneway="yes"), street((0, 0), (50, 9)), street((90, 0), (50, 9), oneway="yes")
    )
    (whole,) = read_streets(path, (0.0, 0.0, 0.0)).streets
    assert line_length(whole.line) == pytest.approx(90 + np.hypot(50, 9) + np.hypot(40, 9), rel=1e-3)


def test_divided_roads_cross_in_one_junction(write_map) -> None:
    ways = [street(*((x, sign * 6) for x in (-150, -6, 6, 150)), oneway="yes") for sign in (-1, 1)]
    ways += [street(*((sign * 6, y) for y in (-150, -6, 6, 150)), oneway="yes") for sign in (-1, 1)]
    network = read_streets(write_map(*ways), (0.0, 0.0, 0.0))
    degrees = network.degrees()
    (junction,) = [node for node in degrees if degrees[node] > 2]
    assert network.nodes[junction].tolist() == pytest.approx([0.0, 0.0], abs=0.1)
    # Each of the eight carriageways reaches the center, none is lost within the junction.
    assert len(network.streets) == 8
    assert all(junction in street.ends for street in network.streets)


def test_road_that_divides_and_rejoins_has_no_intersection(write_map) -> None:
    path = write_map(
        *(street((-150, 0), (-60, 0)), street((60, 0), (150, 0))),
        *(street((-60, 0), (-50, 6), (50, 6), (60, 0), oneway="yes"), street((60, 0), (50, -6), (-50, -6), (-60, 0))),
    )
    assert crossings(path) == []


def test_crescent_is_kept(write_map) -> None:
    """Its two corners are one junction; osmnx alone would merge them and drop the street between."""
    crescent = street((-8, 0), (-8, 80), (8, 80), (8, 0))
    network = read_streets(write_map(street((-90, 0), (-8, 0), (8, 0), (90, 0)), crescent), (0.0, 0.0, 0.0))
    (loop,) = [street for street in network.streets if street.ends[0] == street.ends[1]]
    assert line_length(loop.line) == pytest.approx(192.0, rel=1e-3)
    assert network.degrees()[loop.ends[0]] == 4


@pytest.mark.parametrize(
    ("name", "origin", "junctions", "kilometers"),
    [
        ("West-Oakland.osm.bz2", (37.8076, -122.3004, 0.0), 12, 7.06),
        ("planet_10.068,48.135_10.071,48.137.osm", (48.136, 10.0695, 0.0), 1, 0.28),
    ],
)
def test_real_maps_share_half_of_every_street(
    real_captures: Path, name: str, origin: tuple[float, float, float], junctions: int, kilometers: float
) -> None:
    network = read_streets(real_captures / "osm" / name, origin)
    assert sum(degree > 2 for degree in network.degrees().values()) == junctions
    assert sum(line_length(street.line) for street in network.streets) / 1000 == pytest.approx(kilometers, rel=0.01)
    layout = place_intersections(network)
    for piece in layout.pieces:
        length = line_length(piece.line)
        ends = (0.0, length) if len(piece.blocks) == 1 else (0.25 * length, 0.75 * length)
        shared = densify(substring(piece.line, *ends), 1.0)
        for block in piece.blocks:
            assert (np.linalg.norm(shared - layout.origins[block], axis=-1) <= layout.radii[block]).all()


TOWN = osm_xml()


def bomb(levels: int, text: str, entity: str | None = "ha") -> str:
    """Return a map with nested entities, each ten times the previous one, from a text or a local file."""
    first = 'SYSTEM "file:///etc/hostname"' if entity is None else f'"{entity}"'
    entities = [f"<!ENTITY a0 {first}>"]
    entities += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, levels + 1)]
    return f"<!DOCTYPE osm [{''.join(entities)}]><osm><node id='1' lat='48' lon='9'/>{text}</osm>"


BROKEN = {
    "an empty file": ("", "not a readable OpenStreetMap extract"),
    "text": ("streets", "not a readable OpenStreetMap extract"),
    "half a file": (TOWN[:900], "not a readable OpenStreetMap extract"),
    "another format": ("<html></html>", "not a readable OpenStreetMap extract"),
    "a latitude that is no number": (TOWN.replace('lat="47.5', 'lat="north'), "not a readable OpenStreetMap extract"),
    "ways cut off": (TOWN.replace('<nd ref="8" />', '<nd ref="99" />'), "complete ways"),
    "no streets": (TOWN.replace("highway", "waterway"), "holds no streets"),
    "an unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + TOWN, "not a readable OpenStreetMap extract"),
    "a number of 5000 digits": (TOWN.replace('node id="1"', f'node id="{"9" * 5000}"'), "not a readable OpenStreetMap"),
    "a tag of nothing": ('<osm><tag k="a" v="b"/></osm>', "not a readable OpenStreetMap extract"),
    "an infinite latitude": (
        TOWN.replace(' lat="47.5', ' lat="1e400" x="'),
        "latitude inf, longitude 9.*not on earth",
    ),
    "a latitude beyond the pole": (TOWN.replace(' lat="47.5', ' lat="122.5'), "latitude 122.*not on earth"),
    "entities of entities": (bomb(11, "&a11;"), "not a readable OpenStreetMap extract"),
    "a long entity many times": (bomb(0, "&a0;" * 100_000, "x" * 100_000), "not a readable OpenStreetMap extract"),
    "an entity from a file": (bomb(0, "&a0;", None), "not a readable OpenStreetMap extract"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_maps_raise_one_line(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    path = tmp_path / "town.osm"
    path.write_text(content)
    with pytest.raises(PlacementError, match=message) as raised:
        read_streets(path, GEO_ORIGIN)
    assert "\n" not in str(raised.value)
    assert "town.osm" in str(raised.value)


def test_missing_or_uncompressed_map_raises(tmp_path: Path) -> None:
    with pytest.raises(PlacementError, match="does not exist"):
        read_streets(tmp_path / "none.osm", GEO_ORIGIN)
    (tmp_path / "town.osm.bz2").write_text(TOWN)
    with pytest.raises(PlacementError, match="not a readable OpenStreetMap extract"):
        read_streets(tmp_path / "town.osm.bz2", GEO_ORIGIN)


@pytest.mark.parametrize(("suffix", "compress"), [(".osm.bz2", bz2.compress), (".osm.gz", gzip.compress)])
def test_decompression_bomb_raises_early(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"town{suffix}"
    path.write_bytes(compress(b"<osm>") + compress(b" " * (1 << 20)) * 3000)
    with pytest.raises(
        PlacementError, match=r"town\.osm\.\w+: it is larger than the maximum of 128 MiB \(uncompressed\)"
    ):
        read_streets(path, GEO_ORIGIN)


def test_huge_map_raises_without_reading(tmp_path: Path) -> None:
    with (tmp_path / "town.osm").open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(PlacementError, match="larger than the maximum of 128 MiB"):
        read_streets(tmp_path / "town.osm", GEO_ORIGIN)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: packed[:60] + b"?" * 9 + packed[69:]])
@pytest.mark.parametrize(("suffix", "compress"), [(".osm.bz2", bz2.compress), (".osm.gz", gzip.compress)])
def test_damaged_archive_raises_one_line(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"town{suffix}"
    path.write_bytes(damage(compress(TOWN.encode())))
    with pytest.raises(PlacementError, match="is not a readable OpenStreetMap extract"):
        read_streets(path, GEO_ORIGIN)


@pytest.mark.parametrize("suffix", [".osm", ".osm.bz2", ".osm.gz"])
def test_irregular_file_raises_immediately(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"endless{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(PlacementError, match=r"this street map cannot be read \(it is not a regular file\)"):
            read_streets(tmp_path / f"{name}{suffix}", GEO_ORIGIN)


def test_graphml_is_not_a_map(real_captures: Path) -> None:
    with pytest.raises(PlacementError, match="not a readable OpenStreetMap extract"):
        read_streets(real_captures / "osm" / "short.graphml", GEO_ORIGIN)


def test_missing_osmnx_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "osmnx", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlacementError, match=r"pip install 'osmnx>=2,<3'"):
        read_streets(tmp_path / "town.osm", GEO_ORIGIN)
