"""Intersection placement: what each block covers, and what neighbors share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.errors import PlacementError
from blocknerf.partitioning.intersection_placement import (
    HALF_WIDTH,
    MAX_RADIUS,
    MIN_RADIUS,
    StreetLayout,
    place_intersections,
    subdivide,
)
from blocknerf.partitioning.street_network import (
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
    """Return a warped grid of streets with gaps, dead ends and bends."""
    generator = np.random.default_rng(seed)
    nodes = np.array([(x, y) for y in range(rows) for x in range(columns)], np.float64) * side
    nodes += generator.uniform(-0.3, 0.3, nodes.shape) * side
    pairs = [(i, i + 1) for i in range(len(nodes)) if i % columns < columns - 1]
    pairs += [(i, i + columns) for i in range(len(nodes) - columns)]
    pairs_kept = [pair for pair in pairs if generator.random() < 0.85] or pairs[:1]
    return simplify(
        StreetNetwork(nodes=nodes, streets=tuple(_curved_street(nodes, pair, generator) for pair in pairs_kept))
    )


def _curved_street(nodes: np.ndarray, ends: tuple[int, int], generator: np.random.Generator) -> Street:
    fraction = np.linspace(0.0, 1.0, 9)[:, None]
    first, last = nodes[list(ends)]
    across = np.array([first[1] - last[1], last[0] - first[0]])
    bend = generator.uniform(-0.6, 0.6) * np.sin(np.pi * fraction) + generator.uniform(-0.2, 0.2) * np.sin(
        3 * np.pi * fraction
    )
    return Street(ends=ends, line=first + fraction * (last - first) + bend * across)


def contains_line(layout: StreetLayout, block: int, line: Line) -> bool:
    """Return whether a block's disc contains a line, with the street's half width."""
    radius = layout.radii[block]
    max_distance = radius - HALF_WIDTH if radius > MIN_RADIUS else radius
    return bool((np.linalg.norm(densify(line, 1.0) - layout.origins[block], axis=-1) <= max_distance + 1e-6).all())


@settings(max_examples=60, deadline=None)
@given(max_radius=st.floats(40.0, 300.0), **TOWNS)
def test_neighbors_share_the_street_from_25_to_75_percent(max_radius: float, **town: float) -> None:
    layout = place_intersections(make_town(**town), max_radius)
    shared_pieces = [piece for piece in layout.pieces if len(piece.blocks) == 2]
    for piece in shared_pieces:
        length = line_length(piece.line)
        middle = substring(piece.line, 0.25 * length, 0.75 * length)
        assert all(contains_line(layout, block, middle) for block in piece.blocks)
        for (block, covered), oriented in zip(piece.block_lines(), (piece.line, piece.line[::-1]), strict=True):
            assert line_length(covered) == pytest.approx(0.75 * length)
            assert contains_line(layout, block, substring(oriented, 0.0, 0.75 * length))


@settings(max_examples=60, deadline=None)
@given(max_radius=st.floats(40.0, 300.0), **TOWNS)
def test_every_street_is_covered_and_no_block_is_too_large(max_radius: float, **shape: float) -> None:
    town = make_town(**shape)
    layout = place_intersections(town, max_radius)
    assert layout.radii.max() <= max_radius + 1e-6
    for street in town.streets:
        positions = densify(street.line, 2.0)
        distances = np.linalg.norm(positions[:, None] - layout.origins, axis=-1)
        assert bool((distances <= layout.radii).any(-1).all())
    assert sum(line_length(piece.line) for piece in layout.pieces) == pytest.approx(
        sum(line_length(street.line) for street in town.streets)
    )


@settings(max_examples=60, deadline=None)
@given(**TOWNS)
def test_every_intersection_has_a_block(**shape: float) -> None:
    town = make_town(**shape)
    crossings = [node for node, degree in town.degrees().items() if degree > 2]
    layout = place_intersections(town, 1e6)
    for node in crossings:
        assert (layout.origins == town.nodes[node]).all(-1).any()
    # If blocks may be this large, there are no others; a piece without an intersection still has one.
    open_ends = [group for group in town.parallel_groups() if not set(group[0].ends) & set(crossings)]
    assert len(layout.origins) == len(crossings) + len(open_ends)


def test_block_covers_75_percent_of_its_longest_street() -> None:
    corners = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 30.0], [40.0, -30.0], [0.0, 30.0], [-20.0, 0.0]])
    ends = [(0, 1), (1, 2), (1, 3), (0, 4), (0, 5)]
    town = StreetNetwork(nodes=corners, streets=tuple(Street(ends=pair, line=corners[list(pair)]) for pair in ends))
    layout = place_intersections(town)
    assert layout.origins.tolist() == [[0.0, 0.0], [40.0, 0.0]]
    # 30 m: 75 % of the street between them, and all of the longest dead end.
    assert layout.radii.tolist() == [30.0 + HALF_WIDTH] * 2


def test_curve_is_measured_along_its_length() -> None:
    angle = np.linspace(0.0, np.pi, 181)
    arc = Street(ends=(0, 1), line=np.stack([-50 * np.cos(angle), 50 * np.sin(angle)], -1))
    stubs = [Street(ends=(node, other), line=np.array([[x, 0.0], end])) for node, other, x, end in STUBS]
    nodes = np.array([[-50.0, 0.0], [50.0, 0.0], [-50.0, -10.0], [-60.0, 0.0], [50.0, -10.0], [60.0, 0.0]])
    layout = place_intersections(StreetNetwork(nodes=nodes, streets=(arc, *stubs)), 200.0)
    # 75 % of half a circle is an arc of 135 degrees with the chord 2 r sin(67.5 degrees).
    assert layout.radii == pytest.approx([100 * np.sin(np.radians(67.5)) + HALF_WIDTH] * 2, rel=1e-3)


STUBS = [
    (0, 2, -50.0, (-50.0, -10.0)),
    (0, 3, -50.0, (-60.0, 0.0)),
    (1, 4, 50.0, (50.0, -10.0)),
    (1, 5, 50.0, (60.0, 0.0)),
]


def test_loop_and_ring_are_covered() -> None:
    loop_line = np.array([[0.0, 0.0], [30.0, 30.0], [60.0, 0.0], [30.0, -30.0], [0.0, 0.0]])
    stem = Street(ends=(0, 1), line=np.array([[0.0, 0.0], [-20.0, 0.0]]))
    loop = Street(ends=(0, 0), line=loop_line)
    nodes = np.array([[0.0, 0.0], [-20.0, 0.0]])
    for streets in ((stem, loop), (loop,)):
        layout = place_intersections(StreetNetwork(nodes=nodes, streets=streets), 150.0)
        assert layout.origins.tolist() == [[0.0, 0.0]]
        assert layout.radii.tolist() == [60.0 + HALF_WIDTH]
        smaller = place_intersections(StreetNetwork(nodes=nodes, streets=streets))
        assert len(smaller.origins) == 3
        assert smaller.radii.max() < 60.0


@pytest.mark.parametrize("open_ends", [0, 1, 2])
def test_long_streets_are_divided_evenly(open_ends: int) -> None:
    positions = [1000.0 * fraction for fraction in subdivide(1000.0, open_ends, 60.0)]
    gaps = np.diff(positions)
    assert np.ptp(gaps) < 1e-9
    assert 0.75 * gaps[0] == pytest.approx(60.0, rel=0.1)
    assert 0.75 * gaps[0] <= 60.0
    # The distance to a block is the spacing, and to an open end 75 % of it.
    assert positions[0] == pytest.approx(gaps[0] * (0.75 if open_ends == 2 else 1.0))
    assert 1000.0 - positions[-1] == pytest.approx(gaps[0] * (0.75 if open_ends else 1.0))


def test_short_streets_are_not_divided() -> None:
    assert subdivide(80.0, 0, 60.0) == subdivide(60.0, 1, 60.0) == []
    assert subdivide(120.0, 2, 60.0) == [0.5]
    assert len(subdivide(80.1, 0, 60.0)) == len(subdivide(60.1, 1, 60.0)) == 1


def test_carriageways_share_blocks() -> None:
    """A boulevard of 170 m between two crossings; each carriageway alone would get two dividing blocks."""
    ends = [(0.0, 0.0), (170.0, 0.0)]
    stubs = [(0.0, 30.0), (0.0, -30.0), (170.0, 30.0), (170.0, -30.0)]
    nodes = np.array(ends + stubs)
    streets = [Street(ends=pair, line=nodes[list(pair)]) for pair in ((0, 2), (0, 3), (1, 4), (1, 5))]
    north, south = (np.array([ends[0], (10.0, side), (160.0, side), ends[1]]) for side in (7.0, -7.0))
    streets += [Street(ends=(0, 1), line=north), Street(ends=(1, 0), line=south[::-1])]
    layout = place_intersections(StreetNetwork(nodes=nodes, streets=tuple(streets)))
    assert layout.origins == pytest.approx(np.array([[0.0, 0.0], [170.0, 0.0], [56.0, 0.0], [114.0, 0.0]]), abs=1.0)
    assert all(contains_line(layout, block, line) for block, lines in enumerate(layout.block_lines) for line in lines)
    assert {round(float(line[:, 1].mean())) for line in layout.block_lines[2]} == {7, -7}


def test_distant_carriageways_have_separate_blocks() -> None:
    nodes = np.array([[0.0, 0.0], [400.0, 0.0]])
    north, south = (np.array([nodes[0], (20.0, side), (380.0, side), nodes[1]]) for side in (12.4, -12.4))
    town = StreetNetwork(nodes=nodes, streets=(Street(ends=(0, 1), line=north), Street(ends=(0, 1), line=south)))
    assert len(town.parallel_groups()) == 1
    merged, separate = place_intersections(town, 60.0), place_intersections(town, 32.0)
    assert merged.origins[:, 1] == pytest.approx(0.0, abs=1e-9)
    assert {round(float(y)) for y in separate.origins[:, 1]} >= {12, -12}
    assert abs(separate.origins[:, 1]).min() > 1.0
    for layout, max_radius in ((merged, 60.0), (separate, 32.0)):
        assert layout.radii.max() <= max_radius
        assert all(
            contains_line(layout, block, line) for block, lines in enumerate(layout.block_lines) for line in lines
        )


def test_single_street_gets_a_block() -> None:
    town = StreetNetwork(nodes=FULL, streets=(Street(ends=(0, 1), line=FULL),))
    layout = place_intersections(town)
    assert layout.origins.tolist() == [[50.0, 0.0]]
    assert layout.radii.tolist() == [50.0 + HALF_WIDTH]
    assert MAX_RADIUS > 58.0


@pytest.mark.parametrize("max_radius", [1e-3, 1e-9])
def test_too_many_blocks_raise_before_placement(max_radius: float) -> None:
    town = StreetNetwork(nodes=FULL, streets=(Street(ends=(0, 1), line=FULL),))
    with pytest.raises(PlacementError, match=r"needs about \d+ blocks; give a larger one"):
        place_intersections(town, max_radius)
