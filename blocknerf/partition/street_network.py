"""A street network in plan: where streets meet or end, and the streets between, in metres of the world."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

MAX_PARALLEL_GAP = 25.0
"""Streets between the same two places that stay this close (m) are carriageways of one street."""
COMPARE_SPACING = 5.0
"""Spacing (m) at which two lines are compared."""

Line = Float[np.ndarray, "_ 2"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Street:
    """A stretch of road between two places of a network."""

    ends: tuple[int, int]
    """The places where it begins and ends; the same twice for a loop."""
    line: Line
    """Its middle line from the first to the second, in metres."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreetNetwork:
    """Streets, and the places where they meet or end."""

    nodes: Float[np.ndarray, "places 2"]
    streets: tuple[Street, ...]

    def degrees(self) -> dict[int, int]:
        """How many ways lead away from each place that has any: 1 at a dead end, 3 or more at an intersection."""
        return {place: _count_sides(streets) for place, streets in _at_places(self.streets).items()}

    def parallel_groups(self) -> list[tuple[Street, ...]]:
        """The streets, each once: the carriageways of a divided one together, all from the same end to the other."""
        between: dict[frozenset[int], list[Street]] = {}
        for street in self.streets:
            between.setdefault(frozenset(street.ends), []).append(street)
        ways = (way for streets in between.values() for way in _ways(streets))
        return [tuple(_leading_from(street, way[0].ends[0]) for street in way) for way in ways]


def line_length(line: Line) -> float:
    """Length along a polyline.

    >>> line_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 10.0]]))
    11.0
    """
    return float(_distances(line)[-1])


def substring(line: Line, first: float, last: float) -> Line:
    """The part of a polyline between two distances along it.

    >>> substring(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]), 5.0, 15.0).tolist()
    [[5.0, 0.0], [10.0, 0.0], [10.0, 5.0]]
    """
    along = _distances(line)
    kept = line[(along > first) & (along < last)]
    return np.concatenate([interpolate(line, first)[None], kept, interpolate(line, last)[None]])


def interpolate(line: Line, distance: float) -> Float[np.ndarray, "2"]:
    """The position at a distance along a polyline."""
    along = _distances(line)
    return np.array([np.interp(distance, along, axis) for axis in line.T])


def midpoint(lines: Sequence[Line], share: float) -> Float[np.ndarray, "2"]:
    """The mean of the positions at a share of each line's length."""
    return np.mean([interpolate(line, share * line_length(line)) for line in lines], 0)


def max_separation(lines: Sequence[Line]) -> float:
    """How far lines lie from the middle between them, at most.

    >>> max_separation([np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0.0, 4.0], [9.0, 10.0]])])
    5.0
    """
    # Distances between polylines are largest at a vertex of one of them.
    shares = [_distances(line) / max(line_length(line), 1e-9) for line in lines]
    where, axes = np.concatenate(shares), range(2)
    tracks = [[np.interp(where, own, line[:, axis]) for axis in axes] for own, line in zip(shares, lines, strict=True)]
    return float(np.linalg.norm(np.array(tracks) - np.mean(tracks, 0), axis=1).max())


def densify(line: Line, spacing: float) -> Float[np.ndarray, "samples 2"]:
    """Positions along a polyline at even distances of at most `spacing`, both ends among them."""
    along = _distances(line)
    where = np.linspace(0.0, along[-1], max(2, int(np.ceil(along[-1] / spacing)) + 1))
    return np.stack([np.interp(where, along, axis) for axis in line.T], -1)


def simplify(network: StreetNetwork) -> StreetNetwork:
    """The same streets, joined wherever a place is neither an intersection nor an end.

    Carriageways of one street count as one way, so that the place where a street divides in two is no
    intersection. A ring without an intersection keeps one place.
    """
    at = _at_places(network.streets)
    waiting = sorted(at)
    while waiting:
        place = waiting.pop()
        joined = _joined(at.get(place, []), place)
        if not joined:
            continue
        for street in at.pop(place):
            _remove(at, street)
        for street in joined:
            for end in dict.fromkeys(street.ends):
                at.setdefault(end, []).append(street)
                # Its streets lead elsewhere now, so two of them may turn out to be carriageways of one.
                waiting.append(end)
    streets = {id(street): street for streets in at.values() for street in streets}
    return StreetNetwork(nodes=network.nodes, streets=tuple(streets.values()))


def _joined(streets: Sequence[Street], place: int) -> list[Street]:
    """The streets that pass through a place, whole; none where it is an intersection or an end."""
    ways = _ways(streets)
    if len(ways) != 2 or any(street.ends[0] == street.ends[1] for street in streets):
        return []
    one, other = sorted(ways, key=len)
    pairs = [(one[i % len(one)], street) for i, street in enumerate(other)]
    return [_connected(_leading_to(first, place), _leading_from(second, place)) for first, second in pairs]


def _connected(first: Street, second: Street) -> Street:
    return Street(ends=(first.ends[0], second.ends[1]), line=np.concatenate([first.line, second.line[1:]]))


def _leading_from(street: Street, place: int) -> Street:
    return street if street.ends[0] == place else Street(ends=street.ends[::-1], line=street.line[::-1])


def _leading_to(street: Street, place: int) -> Street:
    return street if street.ends[1] == place else Street(ends=street.ends[::-1], line=street.line[::-1])


def _at_places(streets: Iterable[Street]) -> dict[int, list[Street]]:
    at: dict[int, list[Street]] = {}
    for street in streets:
        for end in dict.fromkeys(street.ends):
            at.setdefault(end, []).append(street)
    return at


def _remove(at: dict[int, list[Street]], street: Street) -> None:
    for end in street.ends:
        if end in at:
            at[end] = [other for other in at[end] if other is not street]


def _count_sides(streets: Sequence[Street]) -> int:
    # A loop leaves its place on two sides, but is one street.
    return len(_ways(streets)) + sum(street.ends[0] == street.ends[1] for street in streets)


def _ways(streets: Sequence[Street]) -> list[list[Street]]:
    """Streets, carriageways of one street together."""
    ways: list[list[Street]] = []
    for street in streets:
        beside = (way for way in ways if _are_carriageways(way[0], street))
        way = next(beside, None)
        if way is None:
            ways.append([street])
        else:
            way.append(street)
    return ways


def _are_carriageways(first: Street, second: Street) -> bool:
    if first.ends[0] == first.ends[1] or set(first.ends) != set(second.ends):
        return False
    one, other = densify(first.line, COMPARE_SPACING), densify(second.line, COMPARE_SPACING)
    apart = max(float(cKDTree(one).query(other)[0].max()), float(cKDTree(other).query(one)[0].max()))
    return apart <= MAX_PARALLEL_GAP


def _distances(line: Line) -> Float[np.ndarray, "vertices"]:
    """Distance along a polyline of each of its vertices."""
    return np.concatenate([[0.0], np.linalg.norm(np.diff(line, axis=0), axis=-1).cumsum()])
