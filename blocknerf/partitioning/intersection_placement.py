"""Intersection placement: a block at each intersection that covers 75 % of every connected street."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.partitioning.radius import check_count
from blocknerf.partitioning.route import METRIC_RADII
from blocknerf.partitioning.street_network import (
    Line,
    Street,
    StreetNetwork,
    line_length,
    max_separation,
    midpoint,
    substring,
)

COVERAGE_FRACTION = 0.75
"""Fraction of a street toward the next intersection; neighbors thus share the part from 25 % to 75 % of it."""
HALF_WIDTH = 8.0
"""A block also covers this much (m) on either side of a street's centerline: lanes, sidewalks, map errors."""
MAX_SEPARATION = 0.5
"""Fraction of a block's reach; carriageways farther from their mean line get blocks of their own."""
MIN_RADIUS, MAX_RADIUS = METRIC_RADII
"""Radii (m) of the smallest block and of the largest block of a draft."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreetPiece:
    """A piece of street from one block to its neighbor, or from the last block to the end of the street."""

    blocks: tuple[int, ...]
    """The block at its start, then the one at its end, if any."""
    line: Line

    def block_lines(self) -> list[tuple[int, Line]]:
        """Return each of its blocks with the part of the line that it covers."""
        if len(self.blocks) == 1:
            return [(self.blocks[0], self.line)]
        length = line_length(self.line)
        first, last = (
            substring(self.line, 0.0, COVERAGE_FRACTION * length),
            substring(self.line, (1 - COVERAGE_FRACTION) * length, length),
        )
        return [(self.blocks[0], first), (self.blocks[1], last)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreetLayout:
    """Blocks on a street network, and the pieces of street between them."""

    origins: Float[np.ndarray, "blocks 2"]
    radii: Float[np.ndarray, "blocks"]
    pieces: tuple[StreetPiece, ...]
    block_lines: tuple[tuple[Line, ...], ...]
    """Lines that each block covers."""


def place_intersections(network: StreetNetwork, max_radius: float = MAX_RADIUS) -> StreetLayout:
    """Place a block at every intersection, and on streets too long for that (Tancik et al. 2022, section 3.1).

    Each block covers its intersection and 75 % of every connected street toward the next block, or all of a street
    that ends without one. Its radius is that of the smallest disc around the intersection that contains those parts,
    plus `HALF_WIDTH`. Neighbors thus share at least the street from 25 % to 75 % of its length, and more where other
    streets at the intersection are longer. If the part of a street, straightened, does not fit a disc of radius
    `max_radius` (m), evenly spaced blocks divide the street. Carriageways of a divided street share blocks, unless
    they are too far apart.

    Raises:
        PlacementError: `max_radius` is too small: there would be too many blocks.
    """
    half_width = min(HALF_WIDTH, max_radius / 4)
    # A ring without an intersection has one node, of degree two, and needs a block as well.
    junctions = [node for node, degree in sorted(network.degrees().items()) if degree > 1]
    block_at_node = {node: index for index, node in enumerate(junctions)}
    origins = [network.nodes[node] for node in junctions]
    max_reach = max_radius - half_width
    groups = [group for streets in network.parallel_groups() for group in _merge_parallel(streets, max_reach)]
    check_count(
        len(junctions) + sum(COVERAGE_FRACTION * max(map(line_length, lines)) for _, lines, _ in groups) / max_reach,
        max_radius,
    )
    pieces: list[StreetPiece] = []
    for nodes, lines, group_reach in groups:
        ends = [block_at_node.get(node) for node in nodes]
        if ends[0] is None:
            lines, ends = [line[::-1] for line in lines], ends[::-1]
        fractions = subdivide(max(map(line_length, lines)), ends.count(None), group_reach)
        blocks = [ends[0], *range(len(origins), len(origins) + len(fractions)), ends[1]]
        pieces += [piece for line in lines for piece in _pieces(line, fractions, blocks)]
        origins += [midpoint(lines, fraction) for fraction in fractions]
    block_lines = _lines_per_block(pieces, len(origins))
    reaches = [_reach(origin, lines) for origin, lines in zip(origins, block_lines, strict=True)]
    return StreetLayout(
        origins=np.array(origins).reshape(-1, 2),
        radii=np.maximum(np.array(reaches) + half_width, min(MIN_RADIUS, max_radius)),
        pieces=tuple(pieces),
        block_lines=block_lines,
    )


def subdivide(length: float, open_ends: int, max_reach: float) -> list[float]:
    """Return the positions of blocks that divide a street, such that none covers more than `max_reach`.

    Positions are fractions of the length; if only one end has a block, it is the start. Pieces between blocks are
    equally long, those toward an open end 75 % of that.

    >>> subdivide(100.0, 0, 75.0), subdivide(100.0, 0, 50.0), subdivide(75.0, 2, 60.0), subdivide(70.0, 1, 30.0)
    ([], [0.5], [0.5], [0.5714285714285714])
    """
    remainder = 1.0 - (1.0 - COVERAGE_FRACTION) * open_ends
    count = max(open_ends // 2, math.ceil(COVERAGE_FRACTION * length / max_reach - remainder - 1e-9))
    spacing = 1.0 / (count + remainder)
    start = COVERAGE_FRACTION * spacing if open_ends == 2 else spacing
    return [start + i * spacing for i in range(count)]


def _merge_parallel(streets: Sequence[Street], max_reach: float) -> list[tuple[tuple[int, int], list[Line], float]]:
    """Return the end nodes of a street, its carriageways, and the reach of blocks on the mean line between them.

    Carriageways too far apart for common blocks are returned separately.
    """
    ends, lines = streets[0].ends, [street.line for street in streets]
    separation = max_separation(lines)
    if separation <= MAX_SEPARATION * max_reach:
        return [(ends, lines, max_reach - separation)]
    return [(ends, [line], max_reach) for line in lines]


def _pieces(line: Line, fractions: list[float], blocks: list[int | None]) -> list[StreetPiece]:
    """Return a line cut at fractions of its length; `blocks` are those at its start, at the cuts and at its end."""
    bounds = [fraction * line_length(line) for fraction in (0.0, *fractions, 1.0)]
    pieces = []
    for i in range(len(bounds) - 1):
        piece, ends = substring(line, bounds[i], bounds[i + 1]), blocks[i : i + 2]
        if ends[0] is None:
            piece, ends = piece[::-1], ends[::-1]
        pieces.append(StreetPiece(blocks=tuple(end for end in ends if end is not None), line=piece))
    return pieces


def _lines_per_block(pieces: Sequence[StreetPiece], count: int) -> tuple[tuple[Line, ...], ...]:
    block_lines: list[list[Line]] = [[] for _ in range(count)]
    for piece in pieces:
        for block, line in piece.block_lines():
            block_lines[block].append(line)
    return tuple(map(tuple, block_lines))


def _reach(origin: Float[np.ndarray, "2"], lines: Sequence[Line]) -> float:
    """Return the maximum distance of the lines from a position; a polyline is farthest at a vertex."""
    return float(np.linalg.norm(np.concatenate(lines) - origin, axis=-1).max())
