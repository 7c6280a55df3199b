"""Which blocks a view may need: those near its camera whose training cameras saw what it shows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from blocknerf.partition.block import Block

Position = tuple[float, float, float]

RANGE_FADE = 0.25
"""Share of the selection radius over which a block fades out, so that it does not pop as the camera leaves it."""

Reason = Literal["blended", "fallback", "culled", "negligible", "out_of_range", "not_trained"]
"""`blended` and `fallback` render; `fallback` is the nearest block where hardly any other survives.

`culled` blocks do not see the view, `negligible` ones would add nothing that shows, the nearest block may be
`out_of_range`, and a `not_trained` one has no field on disk.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A block that a camera may need."""

    block: Block
    distance: float
    """From the camera to the block's origin, in plan, in world units."""
    selection_weight: float
    """1 well within the selection radius, falling smoothly to 0 at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSelection:
    """What became of a candidate in one view, and why."""

    name: str
    distance: float
    """From the camera to the block's origin, in plan, in world units."""
    visibility: float | None
    """Mean over the view of the predicted visibility; None where it was not needed."""
    weight: float
    """Share of the block in the picture; 0 where it was dropped."""
    reason: Reason

    @property
    def rendered(self) -> bool:
        """Whether the block was rendered."""
        return self.weight > 0.0


class BlockIndex:
    """Finds the blocks around a camera in time that does not grow with the number of blocks in the city.

    Blocks are filed by size, a k-d tree an octave of radius, so that one large block does not make every
    search among small ones as wide as itself.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        radii = np.array([block.radius for block in blocks])
        octaves = np.floor(np.log2(radii)).astype(int)
        origins = np.array([block.origin[:2] for block in blocks])
        members = [np.flatnonzero(octaves == octave) for octave in np.unique(octaves)]
        self._trees = [(rows, cKDTree(origins[rows]), float(radii[rows].max())) for rows in members]

    def within_radius(self, position: Position, selection_radius: float) -> tuple[Candidate, ...]:
        """Blocks within `selection_radius` of their own radii, and the city's nearest in any case; nearest first."""
        found = {next(self._ranked(position)), *self._within(position, selection_radius)}
        return tuple(self._candidate(row, distance, selection_radius) for distance, row in sorted(found))

    def nearest_first(self, position: Position, selection_radius: float) -> Iterator[Candidate]:
        """Every block of the city, nearest first, found as they are asked for."""
        return (self._candidate(row, distance, selection_radius) for distance, row in self._ranked(position))

    def _ranked(self, position: Position) -> Iterator[tuple[float, int]]:
        given: set[int] = set()
        count = 1
        while len(given) < len(self._blocks):
            for distance, row in sorted(self._nearest(position, count))[:count]:
                if row not in given:
                    given.add(row)
                    yield distance, row
            count *= 2

    def _nearest(self, position: Position, count: int) -> Iterator[tuple[float, int]]:
        for rows, tree, _ in self._trees:
            _, local = tree.query(position[:2], k=list(range(1, min(count, len(rows)) + 1)))
            for row in rows[local]:
                yield horizontal_distance(position, self._blocks[row]), int(row)

    def _within(self, position: Position, selection_radius: float) -> Iterator[tuple[float, int]]:
        for rows, tree, largest in self._trees:
            for row in rows[tree.query_ball_point(position[:2], selection_radius * largest)]:
                block = self._blocks[row]
                distance = horizontal_distance(position, block)
                if distance < selection_radius * block.radius:
                    yield distance, int(row)

    def _candidate(self, row: int, distance: float, selection_radius: float) -> Candidate:
        block = self._blocks[row]
        presence = range_falloff(distance / (selection_radius * block.radius))
        return Candidate(block=block, distance=distance, selection_weight=presence)


def horizontal_distance(position: Position, block: Block) -> float:
    """Distance in plan from a position to a block's origin."""
    return math.hypot(position[0] - block.origin[0], position[1] - block.origin[1])


def range_falloff(share: float) -> float:
    """How present a block is at a share of its selection radius: 1 within, then smoothly down to 0 at the rim.

    >>> [round(range_falloff(share), 3) for share in (0.0, 0.75, 0.875, 1.0, 2.0)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    return smoothstep((1.0 - share) / RANGE_FADE)


def visibility_falloff(visibility: float | None, threshold: float) -> float:
    """How present a block of that mean visibility is: 0 below the threshold, smoothly up to 1 at twice it.

    A visibility that is not known counts as full, and a threshold of 0 culls nothing.

    >>> [round(visibility_falloff(visibility, 0.1), 3) for visibility in (0.05, 0.1, 0.15, 0.2, 0.9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if visibility is None or threshold == 0.0:
        return 1.0
    return smoothstep((visibility - threshold) / threshold)


def smoothstep(share: float) -> float:
    """0 up to 0, 1 from 1, and a cubic between that is flat at both ends."""
    inner = min(max(share, 0.0), 1.0)
    return inner * inner * (3.0 - 2.0 * inner)
