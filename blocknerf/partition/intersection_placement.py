"""Placement by intersections: a block at each, as far as three quarters of every street that leads away from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from blocknerf.partition.radius import check_count
from blocknerf.partition.route import METRIC_RADII
from blocknerf.partition.street_network import (
    Line,
    Street,
    StreetNetwork,
    line_length,
    max_separation,
    midpoint,
    substring,
)

COVERAGE_FRACTION = 0.75
"""Of a street toward the next intersection; neighbors so share the half from 25 % to 75 % of it."""
HALF_WIDTH = 8.0
"""A block also holds this much (m) on either side of a street's middle line: lanes, pavements, errors of the map."""
MAX_SEPARATION = 0.5
"""Of a block's reach; carriageways farther than this from the middle between them get blocks of their own."""
SMALLEST, LARGEST = METRIC_RADII
"""Radii (m) of the smallest and, in a draft, the largest block."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreetPiece:
    """A piece of street from one block to its neighbor, or from the last block to where the street ends."""

    blocks: tuple[int, ...]
    """The block at its beginning, then the one at its end where there is one."""
    line: Line

    def covered(self) -> list[tuple[int, Line]]:
        """Each of its blocks, with the part that it covers."""
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
    """Where blocks lie on a street network, and the pieces of street between them."""

    origins: Float[np.ndarray, "blocks 2"]
    radii: Float[np.ndarray, "blocks"]
    pieces: tuple[StreetPiece, ...]
    parts: tuple[tuple[Line, ...], ...]
    """What each block covers of the streets."""


def place_intersections(network: StreetNetwork, largest: float = LARGEST) -> StreetLayout:
    """A block at every intersection, and on streets too long for that (Tancik et al. 2022, section 3.1).

    Each covers its intersection and 75 % of every connected street toward the next block; where a street ends
    without one, all of it. The radius is that of the smallest disc around the intersection that holds those
    parts, with `HALF_WIDTH` beside them; so neighbors share at least the street from 25 % to 75 %, measured
    along it, and more where other streets at the intersection are longer. A street is long when its part, were
    it straight, would not fit a disc of radius `largest` (m); evenly spaced blocks then divide it. Carriageways of a
    divided street share them, except where they lie too far apart for that.

    Raises:
        PlacementError: `largest` is so small that blocks would be countless.
    """
    width = min(HALF_WIDTH, largest / 4)
    # A ring without an intersection has one place, of two sides, and needs a block as well.
    junctions = [place for place, sides in sorted(network.degrees().items()) if sides > 1]
    numbers = {place: number for number, place in enumerate(junctions)}
    origins = [network.nodes[place] for place in junctions]
    reach = largest - width
    ways = [part for way in network.parallel_groups() for part in _merge_parallel(way, reach)]
    check_count(
        len(junctions) + sum(COVERAGE_FRACTION * max(map(line_length, lines)) for _, lines, _ in ways) / reach, largest
    )
    pieces: list[StreetPiece] = []
    for places, lines, left in ways:
        ends = [numbers.get(place) for place in places]
        if ends[0] is None:
            lines, ends = [line[::-1] for line in lines], ends[::-1]
        cuts = subdivide(max(map(line_length, lines)), ends.count(None), left)
        blocks = [ends[0], *range(len(origins), len(origins) + len(cuts)), ends[1]]
        pieces += [piece for line in lines for piece in _pieces(line, cuts, blocks)]
        origins += [midpoint(lines, cut) for cut in cuts]
    parts = _parts(pieces, len(origins))
    reaches = [_reach(origin, lines) for origin, lines in zip(origins, parts, strict=True)]
    return StreetLayout(
        origins=np.array(origins).reshape(-1, 2),
        radii=np.maximum(np.array(reaches) + width, min(SMALLEST, largest)),
        pieces=tuple(pieces),
        parts=parts,
    )


def subdivide(length: float, bare: int, reach: float) -> list[float]:
    """Where blocks divide a street, of which `bare` ends have no block, so that none covers more than `reach`.

    Shares of its length from its beginning, which has a block where one end has. Pieces between blocks are
    equally long, and those toward a bare end three quarters of that.

    >>> subdivide(100.0, 0, 75.0), subdivide(100.0, 0, 50.0), subdivide(75.0, 2, 60.0), subdivide(70.0, 1, 30.0)
    ([], [0.5], [0.5], [0.5714285714285714])
    """
    rest = 1.0 - (1.0 - COVERAGE_FRACTION) * bare
    count = max(bare // 2, math.ceil(COVERAGE_FRACTION * length / reach - rest - 1e-9))
    spacing = 1.0 / (count + rest)
    start = COVERAGE_FRACTION * spacing if bare == 2 else spacing
    return [start + i * spacing for i in range(count)]


def _merge_parallel(way: Sequence[Street], reach: float) -> list[tuple[tuple[int, int], list[Line], float]]:
    """The ends of a street, its carriageways, and the reach that blocks in the middle between them have along it.

    Each carriageway comes by itself if they spread farther than blocks can hold.
    """
    ends, lines = way[0].ends, [street.line for street in way]
    apart = max_separation(lines)
    return (
        [(ends, lines, reach - apart)] if apart <= MAX_SEPARATION * reach else [(ends, [line], reach) for line in lines]
    )


def _pieces(line: Line, cuts: list[float], blocks: list[int | None]) -> list[StreetPiece]:
    """A line, cut at shares of its length; `blocks` are those at its beginning, at the cuts and at its end."""
    bounds = [share * line_length(line) for share in (0.0, *cuts, 1.0)]
    pieces = []
    for i in range(len(bounds) - 1):
        piece, ends = substring(line, bounds[i], bounds[i + 1]), blocks[i : i + 2]
        if ends[0] is None:
            piece, ends = piece[::-1], ends[::-1]
        pieces.append(StreetPiece(blocks=tuple(end for end in ends if end is not None), line=piece))
    return pieces


def _parts(pieces: Sequence[StreetPiece], count: int) -> tuple[tuple[Line, ...], ...]:
    parts: list[list[Line]] = [[] for _ in range(count)]
    for piece in pieces:
        for block, line in piece.covered():
            parts[block].append(line)
    return tuple(map(tuple, parts))


def _reach(origin: Float[np.ndarray, "2"], lines: Sequence[Line]) -> float:
    """How far the lines lie from a position, at most; a polyline is farthest at a vertex."""
    return float(np.linalg.norm(np.concatenate(lines) - origin, axis=-1).max())
