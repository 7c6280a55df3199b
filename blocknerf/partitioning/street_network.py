"""A street network in the xy-plane: nodes where streets meet or end, and the streets between them, in meters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

MAX_PARALLEL_GAP = 25.0
"""Streets between the same two nodes that stay this close (m) are carriageways of one street."""
COMPARE_SPACING = 5.0
"""Sample spacing (m) of line comparisons."""

Line = Float[np.ndarray, "_ 2"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Street:
    """A street between two nodes of a network."""

    ends: tuple[int, int]
    """Nodes where it starts and ends; the same node twice for a loop."""
    line: Line
    """Centerline from the first to the second node, in meters."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreetNetwork:
    """Streets, and the nodes where they meet or end."""

    nodes: Float[np.ndarray, "nodes 2"]
    streets: tuple[Street, ...]

    def degrees(self) -> dict[int, int]:
        """Return the degree of each node that has streets: 1 at a dead end, 3 or more at an intersection."""
        return {node: _degree(streets) for node, streets in _streets_by_node(self.streets).items()}

    def parallel_groups(self) -> list[tuple[Street, ...]]:
        """Return the streets, each once, with parallel carriageways in one group and oriented from the same end."""
        streets_between: dict[frozenset[int], list[Street]] = {}
        for street in self.streets:
            streets_between.setdefault(frozenset(street.ends), []).append(street)
        groups = (group for streets in streets_between.values() for group in _group_parallel(streets))
        return [tuple(_oriented_from(street, group[0].ends[0]) for street in group) for group in groups]


def line_length(line: Line) -> float:
    """Return the length of a polyline.

    >>> line_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 10.0]]))
    11.0
    """
    return float(_distances(line)[-1])


def substring(line: Line, first: float, last: float) -> Line:
    """Return the part of a polyline between two distances along it.

    >>> substring(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]]), 5.0, 15.0).tolist()
    [[5.0, 0.0], [10.0, 0.0], [10.0, 5.0]]
    """
    distances = _distances(line)
    kept = line[(distances > first) & (distances < last)]
    return np.concatenate([interpolate(line, first)[None], kept, interpolate(line, last)[None]])


def interpolate(line: Line, distance: float) -> Float[np.ndarray, "2"]:
    """Return the position at a distance along a polyline."""
    distances = _distances(line)
    return np.array([np.interp(distance, distances, axis) for axis in line.T])


def midpoint(lines: Sequence[Line], fraction: float) -> Float[np.ndarray, "2"]:
    """Return the mean of the positions at a fraction of each line's length."""
    return np.mean([interpolate(line, fraction * line_length(line)) for line in lines], 0)


def max_separation(lines: Sequence[Line]) -> float:
    """Return the maximum distance of lines from their mean line.

    >>> max_separation([np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0.0, 4.0], [9.0, 10.0]])])
    5.0
    """
    # Distances between polylines are largest at a vertex of one of them.
    fractions = [_distances(line) / max(line_length(line), 1e-9) for line in lines]
    samples, axes = np.concatenate(fractions), range(2)
    curves = [
        [np.interp(samples, line_fractions, line[:, axis]) for axis in axes]
        for line_fractions, line in zip(fractions, lines, strict=True)
    ]
    return float(np.linalg.norm(np.array(curves) - np.mean(curves, 0), axis=1).max())


def densify(line: Line, spacing: float) -> Float[np.ndarray, "samples 2"]:
    """Return positions along a polyline at an even spacing of at most `spacing`, including both ends."""
    distances = _distances(line)
    samples = np.linspace(0.0, distances[-1], max(2, int(np.ceil(distances[-1] / spacing)) + 1))
    return np.stack([np.interp(samples, distances, axis) for axis in line.T], -1)


def simplify(network: StreetNetwork) -> StreetNetwork:
    """Return the same streets, joined at every node that is neither an intersection nor an end.

    Carriageways of one street count as one, so the node where a street divides in two is not an intersection. A ring
    without an intersection keeps one node.
    """
    streets_at = _streets_by_node(network.streets)
    queue = sorted(streets_at)
    while queue:
        node = queue.pop()
        joined_streets = _join_through(streets_at.get(node, []), node)
        if not joined_streets:
            continue
        for street in streets_at.pop(node):
            _remove(streets_at, street)
        for street in joined_streets:
            for end in dict.fromkeys(street.ends):
                streets_at.setdefault(end, []).append(street)
                # The streets of this node changed, so two of them may now be carriageways of one street.
                queue.append(end)
    streets = {id(street): street for streets in streets_at.values() for street in streets}
    return StreetNetwork(nodes=network.nodes, streets=tuple(streets.values()))


def _join_through(streets: Sequence[Street], node: int) -> list[Street]:
    """Return the joined streets that pass through a node; none if it is an intersection or an end."""
    groups = _group_parallel(streets)
    if len(groups) != 2 or any(street.ends[0] == street.ends[1] for street in streets):
        return []
    fewer, more = sorted(groups, key=len)
    pairs = [(fewer[i % len(fewer)], street) for i, street in enumerate(more)]
    return [_concatenate(_oriented_to(first, node), _oriented_from(second, node)) for first, second in pairs]


def _concatenate(first: Street, second: Street) -> Street:
    return Street(ends=(first.ends[0], second.ends[1]), line=np.concatenate([first.line, second.line[1:]]))


def _oriented_from(street: Street, node: int) -> Street:
    return street if street.ends[0] == node else Street(ends=street.ends[::-1], line=street.line[::-1])


def _oriented_to(street: Street, node: int) -> Street:
    return street if street.ends[1] == node else Street(ends=street.ends[::-1], line=street.line[::-1])


def _streets_by_node(streets: Iterable[Street]) -> dict[int, list[Street]]:
    streets_at: dict[int, list[Street]] = {}
    for street in streets:
        for end in dict.fromkeys(street.ends):
            streets_at.setdefault(end, []).append(street)
    return streets_at


def _remove(streets_at: dict[int, list[Street]], street: Street) -> None:
    for end in street.ends:
        if end in streets_at:
            streets_at[end] = [other for other in streets_at[end] if other is not street]


def _degree(streets: Sequence[Street]) -> int:
    # A loop has two ends at its node but is one street.
    return len(_group_parallel(streets)) + sum(street.ends[0] == street.ends[1] for street in streets)


def _group_parallel(streets: Sequence[Street]) -> list[list[Street]]:
    """Return streets in groups of parallel carriageways."""
    groups: list[list[Street]] = []
    for street in streets:
        group = next((group for group in groups if _are_parallel(group[0], street)), None)
        if group is None:
            groups.append([street])
        else:
            group.append(street)
    return groups


def _are_parallel(first: Street, second: Street) -> bool:
    if first.ends[0] == first.ends[1] or set(first.ends) != set(second.ends):
        return False
    first_points, second_points = densify(first.line, COMPARE_SPACING), densify(second.line, COMPARE_SPACING)
    gaps = cKDTree(first_points).query(second_points)[0], cKDTree(second_points).query(first_points)[0]
    return max(float(gap.max()) for gap in gaps) <= MAX_PARALLEL_GAP


def _distances(line: Line) -> Float[np.ndarray, "vertices"]:
    """Return the distance along a polyline of each of its vertices."""
    return np.concatenate([[0.0], np.linalg.norm(np.diff(line, axis=0), axis=-1).cumsum()])
