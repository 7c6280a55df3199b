"""Blocks at intersections: what each covers, and what neighbors share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.errors import PlacementError
from blocknerf.partition.intersection_placement import (
    HALF_WIDTH,
    LARGEST,
    SMALLEST,
    StreetLayout,
    place_intersections,
    subdivide,
)
from blocknerf.partition.street_network import (
    Line,
    Street,
    StreetNetwork,
    densify,
    line_length,
    simplify,
    substring,
)

FULL = np.array([[0.0, 0.0], [100.0, 0.0]])


TOWNS = {
    "seed": st.integers(0, 2**32 - 1),
    "columns": st.integers(2, 4),
    "rows": st.integers(1, 4),
    "side": st.floats(40.0, 400.0),
}


def make_town(seed: int, columns: int, rows: int, side: float) -> StreetNetwork:
    """A warped grid of streets with gaps, dead ends and bends."""
    generator = np.random.default_rng(seed)
    places = np.array([(x, y) for y in range(rows) for x in range(columns)], np.float64) * side
    places += generator.uniform(-0.3, 0.3, places.shape) * side
    pairs = [(i, i + 1) for i in range(len(places)) if i % columns < columns - 1]
    pairs += [(i, i + columns) for i in range(len(places) - columns)]
    kept = [pair for pair in pairs if generator.random() < 0.85] or pairs[:1]
    return simplify(StreetNetwork(nodes=places, streets=tuple(_bent(places, pair, generator) for pair in kept)))


def _bent(places: np.ndarray, ends: tuple[int, int], generator: np.random.Generator) -> Street:
    share = np.linspace(0.0, 1.0, 9)[:, None]
    first, last = places[list(ends)]
    across = np.array([first[1] - last[1], last[0] - first[0]])
    bend = generator.uniform(-0.6, 0.6) * np.sin(np.pi * share) + generator.uniform(-0.2, 0.2) * np.sin(
        3 * np.pi * share
    )
    return Street(ends=ends, line=first + share * (last - first) + bend * across)


def holds(placed: StreetLayout, block: int, line: Line) -> bool:
    """Whether a block's disc holds a line, with the room beside it that the street needs."""
    radius = placed.radii[block]
    room = radius - HALF_WIDTH if radius > SMALLEST else radius
    return bool((np.linalg.norm(densify(line, 1.0) - placed.origins[block], axis=-1) <= room + 1e-6).all())


@settings(max_examples=60, deadline=None)
@given(largest=st.floats(40.0, 300.0), **TOWNS)
def test_neighbors_share_the_street_from_a_quarter_to_three_quarters(largest: float, **town: float) -> None:
    placed = place_intersections(make_town(**town), largest)
    between = [piece for piece in placed.pieces if len(piece.blocks) == 2]
    for piece in between:
        length = line_length(piece.line)
        middle = substring(piece.line, 0.25 * length, 0.75 * length)
        assert all(holds(placed, block, middle) for block in piece.blocks)
        for (block, part), toward in zip(piece.covered(), (piece.line, piece.line[::-1]), strict=True):
            assert line_length(part) == pytest.approx(0.75 * length)
            assert holds(placed, block, substring(toward, 0.0, 0.75 * length))


@settings(max_examples=60, deadline=None)
@given(largest=st.floats(40.0, 300.0), **TOWNS)
def test_every_street_is_covered_and_no_block_too_large(largest: float, **shape: float) -> None:
    town = make_town(**shape)
    placed = place_intersections(town, largest)
    assert placed.radii.max() <= largest + 1e-6
    for street in town.streets:
        positions = densify(street.line, 2.0)
        away = np.linalg.norm(positions[:, None] - placed.origins, axis=-1)
        assert bool((away <= placed.radii).any(-1).all())
    assert sum(line_length(piece.line) for piece in placed.pieces) == pytest.approx(
        sum(line_length(street.line) for street in town.streets)
    )


@settings(max_examples=60, deadline=None)
@given(**TOWNS)
def test_every_intersection_has_a_block(**shape: float) -> None:
    town = make_town(**shape)
    crossings = [place for place, sides in town.degrees().items() if sides > 2]
    placed = place_intersections(town, 1e6)
    for place in crossings:
        assert (placed.origins == town.nodes[place]).all(-1).any()
    # With room for any street, blocks stand nowhere else; a piece without an intersection still has one.
    bare = [way for way in town.parallel_groups() if not set(way[0].ends) & set(crossings)]
    assert len(placed.origins) == len(crossings) + len(bare)


def test_a_block_reaches_three_quarters_along_its_longest_street() -> None:
    corners = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 30.0], [40.0, -30.0], [0.0, 30.0], [-20.0, 0.0]])
    ends = [(0, 1), (1, 2), (1, 3), (0, 4), (0, 5)]
    town = StreetNetwork(nodes=corners, streets=tuple(Street(ends=pair, line=corners[list(pair)]) for pair in ends))
    placed = place_intersections(town)
    assert placed.origins.tolist() == [[0.0, 0.0], [40.0, 0.0]]
    # 30 m: three quarters of the street between, and all of the longest dead end.
    assert placed.radii.tolist() == [30.0 + HALF_WIDTH] * 2


def test_a_curve_is_measured_along_and_held_across() -> None:
    angle = np.linspace(0.0, np.pi, 181)
    arc = Street(ends=(0, 1), line=np.stack([-50 * np.cos(angle), 50 * np.sin(angle)], -1))
    stubs = [Street(ends=(place, other), line=np.array([[x, 0.0], end])) for place, other, x, end in STUBS]
    places = np.array([[-50.0, 0.0], [50.0, 0.0], [-50.0, -10.0], [-60.0, 0.0], [50.0, -10.0], [60.0, 0.0]])
    placed = place_intersections(StreetNetwork(nodes=places, streets=(arc, *stubs)), 200.0)
    # 75 % of half a circle is an arc of 135 degrees, whose chord is 2 r sin(67.5 degrees).
    assert placed.radii == pytest.approx([100 * np.sin(np.radians(67.5)) + HALF_WIDTH] * 2, rel=1e-3)


STUBS = [
    (0, 2, -50.0, (-50.0, -10.0)),
    (0, 3, -50.0, (-60.0, 0.0)),
    (1, 4, 50.0, (50.0, -10.0)),
    (1, 5, 50.0, (60.0, 0.0)),
]


def test_a_loop_and_a_ring_are_covered_all_around() -> None:
    around = np.array([[0.0, 0.0], [30.0, 30.0], [60.0, 0.0], [30.0, -30.0], [0.0, 0.0]])
    stem = Street(ends=(0, 1), line=np.array([[0.0, 0.0], [-20.0, 0.0]]))
    loop = Street(ends=(0, 0), line=around)
    places = np.array([[0.0, 0.0], [-20.0, 0.0]])
    for streets in ((stem, loop), (loop,)):
        placed = place_intersections(StreetNetwork(nodes=places, streets=streets), 150.0)
        assert placed.origins.tolist() == [[0.0, 0.0]]
        assert placed.radii.tolist() == [60.0 + HALF_WIDTH]
        smaller = place_intersections(StreetNetwork(nodes=places, streets=streets))
        assert len(smaller.origins) == 3
        assert smaller.radii.max() < 60.0


@pytest.mark.parametrize("bare", [0, 1, 2])
def test_long_streets_are_divided_evenly(bare: int) -> None:
    cuts = [1000.0 * share for share in subdivide(1000.0, bare, 60.0)]
    gaps = np.diff(cuts)
    assert np.ptp(gaps) < 1e-9
    assert 0.75 * gaps[0] == pytest.approx(60.0, rel=0.1)
    assert 0.75 * gaps[0] <= 60.0
    # The way to a block is the spacing, and to an end without one what a block covers of it.
    assert cuts[0] == pytest.approx(gaps[0] * (0.75 if bare == 2 else 1.0))
    assert 1000.0 - cuts[-1] == pytest.approx(gaps[0] * (0.75 if bare else 1.0))


def test_short_streets_are_left_whole() -> None:
    assert subdivide(80.0, 0, 60.0) == subdivide(60.0, 1, 60.0) == []
    assert subdivide(120.0, 2, 60.0) == [0.5]
    assert len(subdivide(80.1, 0, 60.0)) == len(subdivide(60.1, 1, 60.0)) == 1


def test_carriageways_share_the_blocks_that_divide_them() -> None:
    """A boulevard of 170 m between two crossings; either carriageway alone would be divided twice."""
    ends = [(0.0, 0.0), (170.0, 0.0)]
    stubs = [(0.0, 30.0), (0.0, -30.0), (170.0, 30.0), (170.0, -30.0)]
    places = np.array(ends + stubs)
    streets = [Street(ends=pair, line=places[list(pair)]) for pair in ((0, 2), (0, 3), (1, 4), (1, 5))]
    north, south = (np.array([ends[0], (10.0, side), (160.0, side), ends[1]]) for side in (7.0, -7.0))
    streets += [Street(ends=(0, 1), line=north), Street(ends=(1, 0), line=south[::-1])]
    placed = place_intersections(StreetNetwork(nodes=places, streets=tuple(streets)))
    assert placed.origins == pytest.approx(np.array([[0.0, 0.0], [170.0, 0.0], [56.0, 0.0], [114.0, 0.0]]), abs=1.0)
    assert all(holds(placed, block, line) for block, lines in enumerate(placed.parts) for line in lines)
    assert {round(float(line[:, 1].mean())) for line in placed.parts[2]} == {7, -7}


def test_carriageways_far_apart_have_blocks_of_their_own() -> None:
    places = np.array([[0.0, 0.0], [400.0, 0.0]])
    north, south = (np.array([places[0], (20.0, side), (380.0, side), places[1]]) for side in (12.4, -12.4))
    town = StreetNetwork(nodes=places, streets=(Street(ends=(0, 1), line=north), Street(ends=(0, 1), line=south)))
    assert len(town.parallel_groups()) == 1
    together, apart = place_intersections(town, 60.0), place_intersections(town, 32.0)
    assert together.origins[:, 1] == pytest.approx(0.0, abs=1e-9)
    assert {round(float(y)) for y in apart.origins[:, 1]} >= {12, -12}
    assert abs(apart.origins[:, 1]).min() > 1.0
    for placed, largest in ((together, 60.0), (apart, 32.0)):
        assert placed.radii.max() <= largest
        assert all(holds(placed, block, line) for block, lines in enumerate(placed.parts) for line in lines)


def test_a_street_alone_gets_blocks_too() -> None:
    town = StreetNetwork(nodes=FULL, streets=(Street(ends=(0, 1), line=FULL),))
    placed = place_intersections(town)
    assert placed.origins.tolist() == [[50.0, 0.0]]
    assert placed.radii.tolist() == [50.0 + HALF_WIDTH]
    assert LARGEST > 58.0


@pytest.mark.parametrize("largest", [1e-3, 1e-9])
def test_countless_blocks_are_refused_before_any_is_placed(largest: float) -> None:
    town = StreetNetwork(nodes=FULL, streets=(Street(ends=(0, 1), line=FULL),))
    with pytest.raises(PlacementError, match=r"asks for about \d+ blocks; give a larger one"):
        place_intersections(town, largest)
