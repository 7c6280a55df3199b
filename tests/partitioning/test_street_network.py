"""Polylines, and the intersections of a street network."""

import numpy as np
import pytest

from blocknerf.partitioning.street_network import (
    Street,
    StreetNetwork,
    densify,
    interpolate,
    line_length,
    simplify,
    substring,
)

BEND = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]])


def network(nodes: list[tuple[float, float]], *streets: tuple[int, int] | tuple[int, int, list]) -> StreetNetwork:
    """Return a network of streets between nodes, straight or through the given vertices."""
    corners = np.array(nodes, np.float64)
    lines = [
        Street(ends=street[:2], line=np.array([corners[street[0]], *(street[2:] or [[]])[0], corners[street[1]]]))
        for street in streets
    ]
    return StreetNetwork(nodes=corners, streets=tuple(lines))


def test_distances_are_measured_along_a_line() -> None:
    assert line_length(BEND) == 70.0
    assert interpolate(BEND, 40.0).tolist() == [30.0, 10.0]
    assert substring(BEND, 10.0, 20.0).tolist() == [[10.0, 0.0], [20.0, 0.0]]
    assert substring(BEND, 0.0, 70.0).tolist() == BEND.tolist()[:1] + BEND.tolist()[1:]


def test_samples_are_even_and_include_both_ends() -> None:
    samples = densify(BEND, 4.0)
    assert samples[[0, -1]].tolist() == BEND[[0, -1]].tolist()
    assert len(samples) == 19
    assert densify(BEND[:2], 100.0).tolist() == BEND[:2].tolist()


def test_degrees_of_ends_bends_and_intersections() -> None:
    cross = network([(0, 0), (50, 0), (0, 50), (-50, 0), (100, 0)], (0, 1), (2, 0), (0, 3), (1, 4))
    assert cross.degrees() == {0: 3, 1: 2, 2: 1, 3: 1, 4: 1}


def test_streets_are_joined_at_degree_two() -> None:
    # The pieces may have either direction.
    row = network([(0, 0), (50, 0), (100, 20), (150, 0)], (1, 0), (1, 2), (3, 2))
    (street,) = simplify(row).streets
    assert sorted(street.ends) == [0, 3]
    assert line_length(street.line) == pytest.approx(50 + 2 * np.hypot(50, 20))
    assert len(street.line) == 4


def test_divided_road_has_no_intersection_at_its_ends() -> None:
    # A street from 0 that divides at 1 into two carriageways 12 m apart and rejoins at 2.
    boulevard = network(
        [(0, 0), (50, 0), (200, 0), (250, 0)],
        *((0, 1), (1, 2, [(60, 6), (190, 6)]), (2, 1, [(190, -6), (60, -6)]), (2, 3)),
    )
    assert boulevard.degrees() == {0: 1, 1: 2, 2: 2, 3: 1}
    joined = simplify(boulevard)
    assert [sorted(street.ends) for street in joined.streets] == [[0, 3], [0, 3]]
    assert sorted({float(street.line[:, 1].max()) for street in joined.streets}) == [0.0, 6.0]
    assert joined.degrees() == {0: 1, 3: 1}


def test_distant_parallel_streets_are_not_merged() -> None:
    separate = network(
        [(0, 0), (50, 0), (200, 0)], (0, 1), (1, 2, [(60, 40), (190, 40)]), (2, 1, [(190, -40), (60, -40)])
    )
    assert separate.degrees() == {0: 1, 1: 3, 2: 2}
    (loop, stem) = sorted(simplify(separate).streets, key=lambda street: len(set(street.ends)))
    assert (loop.ends, sorted(stem.ends)) == ((1, 1), [0, 1])


def test_loop_has_two_ends_and_ring_keeps_a_node() -> None:
    lollipop = network([(0, 0), (50, 0)], (0, 1), (1, 1, [(90, 40), (90, -40)]))
    assert lollipop.degrees() == {0: 1, 1: 3}
    ring = network([(0, 0), (100, 0), (50, 80)], (0, 1), (1, 2), (2, 0))
    (street,) = simplify(ring).streets
    assert street.ends[0] == street.ends[1]
    assert line_length(street.line) == pytest.approx(100 + 2 * np.hypot(50, 80))
    assert list(simplify(ring).degrees().values()) == [2]
