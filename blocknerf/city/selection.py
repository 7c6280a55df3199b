"""Select candidate blocks of a view: those near its camera that predict enough visibility."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from blocknerf.partitioning.block import Block

Position = tuple[float, float, float]

RANGE_FADE = 0.25
"""Fraction of the selection radius over which a block fades out, so that it does not pop as the camera leaves it."""

Reason = Literal["blended", "fallback", "culled", "negligible", "out_of_range", "not_trained"]
"""`blended` and `fallback` blocks are rendered; `fallback` is the nearest block where hardly any other is selected.

`culled` blocks do not see the view, `negligible` ones have no visible weight, the nearest block may be
`out_of_range`, and a `not_trained` block has no field on disk.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A block that may contribute to a view."""

    block: Block
    distance: float
    """Horizontal distance from the camera to the block's origin, in world units."""
    selection_weight: float
    """1 well within the selection radius, falling smoothly to 0 at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSelection:
    """Result of the selection for one candidate and view."""

    name: str
    distance: float
    """Horizontal distance from the camera to the block's origin, in world units."""
    visibility: float | None
    """Predicted visibility, mean over the view; None if it was not needed."""
    weight: float
    """Mean blend weight; 0 if the block is not rendered."""
    reason: Reason

    @property
    def rendered(self) -> bool:
        """Whether the block was rendered."""
        return self.weight > 0.0


class BlockIndex:
    """Finds the blocks around a camera in time independent of the number of blocks in the city.

    There is one k-d tree per octave of block radius, so that one large block does not widen the search among small
    ones.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        radii = np.array([block.radius for block in blocks])
        octaves = np.floor(np.log2(radii)).astype(int)
        origins = np.array([block.origin[:2] for block in blocks])
        members = [np.flatnonzero(octaves == octave) for octave in np.unique(octaves)]
        self._trees = [(indices, cKDTree(origins[indices]), float(radii[indices].max())) for indices in members]

    def within_radius(self, position: Position, selection_radius: float) -> tuple[Candidate, ...]:
        """Return the blocks within `selection_radius` of their own radii, and always the nearest; nearest first."""
        candidates = {next(self._ranked(position)), *self._within(position, selection_radius)}
        return tuple(self._candidate(index, distance, selection_radius) for distance, index in sorted(candidates))

    def nearest_first(self, position: Position, selection_radius: float) -> Iterator[Candidate]:
        """Return an iterator over all blocks of the city, nearest first, evaluated lazily."""
        return (self._candidate(index, distance, selection_radius) for distance, index in self._ranked(position))

    def _ranked(self, position: Position) -> Iterator[tuple[float, int]]:
        yielded: set[int] = set()
        count = 1
        while len(yielded) < len(self._blocks):
            for distance, index in sorted(self._nearest(position, count))[:count]:
                if index not in yielded:
                    yielded.add(index)
                    yield distance, index
            count *= 2

    def _nearest(self, position: Position, count: int) -> Iterator[tuple[float, int]]:
        for indices, tree, _ in self._trees:
            _, local = tree.query(position[:2], k=list(range(1, min(count, len(indices)) + 1)))
            for index in indices[local]:
                yield horizontal_distance(position, self._blocks[index]), int(index)

    def _within(self, position: Position, selection_radius: float) -> Iterator[tuple[float, int]]:
        for indices, tree, largest in self._trees:
            for index in indices[tree.query_ball_point(position[:2], selection_radius * largest)]:
                block = self._blocks[index]
                distance = horizontal_distance(position, block)
                if distance < selection_radius * block.radius:
                    yield distance, int(index)

    def _candidate(self, index: int, distance: float, selection_radius: float) -> Candidate:
        block = self._blocks[index]
        selection_weight = range_falloff(distance / (selection_radius * block.radius))
        return Candidate(block=block, distance=distance, selection_weight=selection_weight)


def horizontal_distance(position: Position, block: Block) -> float:
    """Return the horizontal distance from a position to a block's origin."""
    return math.hypot(position[0] - block.origin[0], position[1] - block.origin[1])


def range_falloff(fraction: float) -> float:
    """Return the selection weight at a fraction of the selection radius: 1 inside, falling smoothly to 0 at the rim.

    >>> [round(range_falloff(fraction), 3) for fraction in (0.0, 0.75, 0.875, 1.0, 2.0)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    return smoothstep((1.0 - fraction) / RANGE_FADE)


def visibility_falloff(visibility: float | None, threshold: float) -> float:
    """Return the selection weight at a mean visibility: 0 below the threshold, rising smoothly to 1 at twice it.

    An unknown visibility counts as 1, and a threshold of 0 culls nothing.

    >>> [round(visibility_falloff(visibility, 0.1), 3) for visibility in (0.05, 0.1, 0.15, 0.2, 0.9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if visibility is None or threshold == 0.0:
        return 1.0
    return smoothstep((visibility - threshold) / threshold)


def smoothstep(fraction: float) -> float:
    """Return the cubic Hermite step: 0 up to 0, 1 from 1, with zero derivative at both ends."""
    t = min(max(fraction, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
