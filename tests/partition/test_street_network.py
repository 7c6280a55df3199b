"""Polylines, and which places of a street network are intersections."""

import numpy as np
import pytest

from blocknerf.partition.street_network import (
    Street,
    StreetNetwork,
    densify,
    interpolate,
    line_length,
    simplify,
    substring,
)

BEND = np.array([[0.0, 0.0], [30.0, 0.0], [30.0, 40.0]])


def network(places: list[tuple[float, float]], *streets: tuple[int, int] | tuple[int, int, list]) -> StreetNetwork:
    """Streets between places, straight or through the vertices given."""
    corners = np.array(places, np.float64)
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


def test_samples_are_even_and_hold_both_ends() -> None:
    samples = densify(BEND, 4.0)
    assert samples[[0, -1]].tolist() == BEND[[0, -1]].tolist()
    assert len(samples) == 19
    assert densify(BEND[:2], 100.0).tolist() == BEND[:2].tolist()


def test_sides_tell_ends_bends_and_intersections() -> None:
    cross = network([(0, 0), (50, 0), (0, 50), (-50, 0), (100, 0)], (0, 1), (2, 0), (0, 3), (1, 4))
    assert cross.degrees() == {0: 3, 1: 2, 2: 1, 3: 1, 4: 1}


def test_streets_are_joined_where_none_meets_them() -> None:
    # Either direction of the pieces must do.
    row = network([(0, 0), (50, 0), (100, 20), (150, 0)], (1, 0), (1, 2), (3, 2))
    (street,) = simplify(row).streets
    assert sorted(street.ends) == [0, 3]
    assert line_length(street.line) == pytest.approx(50 + 2 * np.hypot(50, 20))
    assert len(street.line) == 4


def test_a_divided_road_makes_no_intersection_where_it_divides() -> None:
    # A street from 0 that divides at 1 into two carriageways 12 m apart and is one again from 2 to 3.
    boulevard = network(
        [(0, 0), (50, 0), (200, 0), (250, 0)],
        *((0, 1), (1, 2, [(60, 6), (190, 6)]), (2, 1, [(190, -6), (60, -6)]), (2, 3)),
    )
    assert boulevard.degrees() == {0: 1, 1: 2, 2: 2, 3: 1}
    joined = simplify(boulevard)
    assert [sorted(street.ends) for street in joined.streets] == [[0, 3], [0, 3]]
    assert sorted({float(street.line[:, 1].max()) for street in joined.streets}) == [0.0, 6.0]
    assert joined.degrees() == {0: 1, 3: 1}


def test_streets_that_part_for_good_are_not_one() -> None:
    apart = network([(0, 0), (50, 0), (200, 0)], (0, 1), (1, 2, [(60, 40), (190, 40)]), (2, 1, [(190, -40), (60, -40)]))
    assert apart.degrees() == {0: 1, 1: 3, 2: 2}
    (loop, stem) = sorted(simplify(apart).streets, key=lambda street: len(set(street.ends)))
    assert (loop.ends, sorted(stem.ends)) == ((1, 1), [0, 1])


def test_a_loop_leaves_on_two_sides_and_a_ring_keeps_a_place() -> None:
    lollipop = network([(0, 0), (50, 0)], (0, 1), (1, 1, [(90, 40), (90, -40)]))
    assert lollipop.degrees() == {0: 1, 1: 3}
    ring = network([(0, 0), (100, 0), (50, 80)], (0, 1), (1, 2), (2, 0))
    (street,) = simplify(ring).streets
    assert street.ends[0] == street.ends[1]
    assert line_length(street.line) == pytest.approx(100 + 2 * np.hypot(50, 80))
    assert list(simplify(ring).degrees().values()) == [2]
