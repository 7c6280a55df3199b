"""Street placement: location on the map, kept blocks, and errors."""

from pathlib import Path

import pytest
import torch

from blocknerf.errors import PlacementError
from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.frame_assignment import assign_frames
from blocknerf.partitioning.placement import covered_frames
from blocknerf.partitioning.street_placement import place_on_streets
from blocknerf.town.osm_writer import GEO_ORIGIN, osm_xml, to_degrees

pytest.importorskip("osmnx", reason="needs osmnx, the extra 'streets'")

MAIN = torch.stack([torch.arange(-36.0, 37.0), torch.full((73,), -1.6)], -1)
"""A path along the sample town's main street, through both of its intersections at x = -22 and 22."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "town.osm"
    path.write_text(osm_xml())
    return path


def origins(layout) -> list[tuple[float, float]]:
    return [block.origin[:2] for block in layout.blocks]


def test_sample_town_gets_a_block_at_each_intersection(drive, town: Path) -> None:
    capture = drive(MAIN, geo_origin=GEO_ORIGIN, height=2.3)
    layout = place_on_streets(capture, town)
    assert [block.name for block in layout.blocks] == ["b000", "b001"]
    assert origins(layout) == [pytest.approx((-22.0, 0.0), abs=0.1), pytest.approx((22.0, 0.0), abs=0.1)]
    assert all(block.origin[2] == pytest.approx(2.3) for block in layout.blocks)
    # The longest street at both is a dead end of 48 m, plus half a street's width.
    assert all(block.radius == pytest.approx(56.0, abs=0.2) for block in layout.blocks)
    assert (len(layout.streets), layout.dropped) == (7, 0)
    assert bool(covered_frames(capture_geometry(capture), layout.blocks).all())


def test_names_follow_the_capture(drive, town: Path) -> None:
    layout = place_on_streets(drive(MAIN.flip(0), geo_origin=GEO_ORIGIN), town)
    assert [round(x) for x, _ in origins(layout)] == [22, -22]


def test_geographic_origin_locates_the_capture(drive, town: Path) -> None:
    latitude, longitude = to_degrees(-20.0, 10.0)
    moved = drive(MAIN + torch.tensor([20.0, -10.0]), geo_origin=(latitude, longitude, 400.0))
    layout = place_on_streets(moved, town)
    assert origins(layout) == [pytest.approx((-2.0, -10.0), abs=0.1), pytest.approx((42.0, -10.0), abs=0.1)]


def test_blocks_without_frames_are_dropped(drive, town: Path) -> None:
    """Four side streets are divided once each by blocks of 30 m."""
    capture = drive(MAIN, geo_origin=GEO_ORIGIN)
    layout = place_on_streets(capture, town, 30.0)
    assert layout.dropped == 4
    assert sorted(round(x) for x, _ in origins(layout)) == [-49, -22, 0, 22, 49]
    assert all(abs(y) < 0.1 for _, y in origins(layout))
    assert all(member.frames for member in assign_frames(capture, layout.blocks))


@pytest.mark.parametrize(("end", "blocks"), [(-8.0, 1), (5.0, 2)])
def test_redundant_block_with_few_frames_is_dropped(drive, town: Path, end: float, blocks: int) -> None:
    """The second block starts at 25 % of the street, at -11; the first block has the frames up to -8 as well."""
    layout = place_on_streets(drive(MAIN[MAIN[:, 0] <= end], geo_origin=GEO_ORIGIN), town)
    assert len(layout.blocks) == blocks
    assert layout.dropped == 2 - blocks


def test_sparse_capture_keeps_the_blocks_it_needs(drive, town: Path) -> None:
    capture = drive(MAIN[::9], geo_origin=GEO_ORIGIN)
    layout = place_on_streets(capture, town, 30.0)
    assert bool(covered_frames(capture_geometry(capture), layout.blocks).all())
    assert len(layout.blocks) < 5


def test_finer_presets_have_larger_blocks(drive, tmp_path: Path) -> None:
    """A street of 140 m between two crossings: too long for a draft block, not for a finer one."""
    path = tmp_path / "long.osm"
    path.write_text(LONG)
    capture = drive(torch.stack([torch.arange(0.0, 140.0), torch.zeros(140)], -1), geo_origin=(0.0, 0.0, 0.0))
    assert len(place_on_streets(capture, path).blocks) == 4
    assert len(place_on_streets(capture, path, preset="standard").blocks) == 2


def test_captures_without_location_raise(drive, town: Path) -> None:
    with pytest.raises(PlacementError, match="capture has no geographic origin"):
        place_on_streets(drive(MAIN), town)
    with pytest.raises(PlacementError, match="capture has no metric scale"):
        place_on_streets(drive(MAIN, geo_origin=GEO_ORIGIN, is_metric=False), town)


def test_map_of_another_place_raises(drive, town: Path) -> None:
    with pytest.raises(PlacementError, match=r"town.osm: its streets are 1\d{5} m and more from the capture"):
        place_on_streets(drive(MAIN, geo_origin=(48.5, 9.5, 400.0)), town)


def test_frames_off_the_streets_are_named(drive, town: Path) -> None:
    off_street = torch.cat([MAIN, torch.tensor([[90.0, 60.0], [92.0, 60.0]])])
    with pytest.raises(PlacementError, match="frames frame73, frame74: in no block of the street map"):
        place_on_streets(drive(off_street, geo_origin=GEO_ORIGIN), town)


@pytest.mark.parametrize("radius", [0.0, -5.0, float("nan")])
def test_invalid_radius_raises(drive, town: Path, radius: float) -> None:
    with pytest.raises(PlacementError, match="not a positive length"):
        place_on_streets(drive(MAIN, geo_origin=GEO_ORIGIN), town, radius)


def _node(number: int, x: float, y: float) -> str:
    return f'<node id="{number}" lat="{y / 110_574.3}" lon="{x / 111_319.49}"/>'


def _way(number: int, *nodes: int) -> str:
    refs = "".join(f'<nd ref="{node}"/>' for node in nodes)
    return f'<way id="{number}">{refs}<tag k="highway" v="residential"/></way>'


NODES = [(0, 0), (140, 0), (0, -40), (0, 40), (140, -40), (140, 40)]
LONG = "".join(
    [
        '<osm version="0.6">',
        *(_node(i, *xy) for i, xy in enumerate(NODES, 1)),
        *(_way(7, 1, 2), _way(8, 3, 1, 4), _way(9, 5, 2, 6)),
        "</osm>",
    ]
)
