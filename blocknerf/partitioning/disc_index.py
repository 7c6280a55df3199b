"""Search by k-d trees: positions inside the disc of a block, and discs that overlap.

Time and memory grow with the number of pairs that are found, not with the product of positions and blocks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from blocknerf.partitioning.block import Block

ROUNDING = 1e-5
"""Fraction of radius and coordinates by which a search is wider, so that the exact check alone decides."""


class PositionIndex:
    """Positions that are searched by the disc of a block."""

    def __init__(self, positions: Float[Tensor, "positions axes"]) -> None:
        self.positions = positions
        xy = positions[:, :2].double().numpy()
        # Unbalanced trees are built several times faster, and search as fast.
        self._tree = cKDTree(xy, balanced_tree=False, compact_nodes=False)

    def inside(self, block: Block, margin: float = 0.0) -> Int[Tensor, "inside"]:
        """Return the indices, ascending, of the positions that `Block.contains`."""
        found = self.within(block.origin[:2], block.radius * (1.0 + margin))
        return found[block.contains(self.positions[found], margin)]

    def within(self, center: tuple[float, float], radius: float) -> Int[Tensor, "within"]:
        """Return the indices, ascending, of all positions within a horizontal radius, and some just beyond it."""
        reach = radius * (1.0 + ROUNDING) + ROUNDING * max(map(abs, center))
        found = self._tree.query_ball_point(center, reach, return_sorted=True)
        return torch.from_numpy(np.array(found, dtype=np.int64))

    def nearest(self, xy: Float[np.ndarray, "queries 2"]) -> Int[np.ndarray, "queries"]:
        """Return the index of the position nearest to each query."""
        return self._tree.query(xy)[1]


def overlapping_discs(
    blocks: Sequence[Block],
) -> Iterator[tuple[Int[np.ndarray, "neighbors"], Float[np.ndarray, "neighbors"]]]:
    """Yield, for each block, the blocks with overlapping discs, ascending, and how far they are.

    Distances are horizontal, between the origins.
    """
    origins, radii = np.array([block.origin[:2] for block in blocks]), np.array([block.radius for block in blocks])
    trees = octave_trees(blocks)
    for i, (origin, radius) in enumerate(zip(origins, radii, strict=True)):
        found = [
            indices[tree.query_ball_point(origin, (radius + largest) * (1.0 + ROUNDING))]
            for indices, tree, largest in trees
        ]
        others = np.sort(np.concatenate(found))
        others = others[others != i]
        distances = np.linalg.norm(origins[others] - origin, axis=-1)
        overlap = distances < radius + radii[others]
        yield others[overlap], distances[overlap]


def octave_trees(blocks: Sequence[Block]) -> list[tuple[Int[np.ndarray, "members"], cKDTree, float]]:
    """Return one k-d tree of origins per octave of radius, with the indices of its blocks and their largest radius.

    One large block thus does not widen the search among small ones.
    """
    radii = np.array([block.radius for block in blocks])
    octaves = np.floor(np.log2(radii)).astype(int)
    origins = np.array([block.origin[:2] for block in blocks])
    members = [np.flatnonzero(octaves == octave) for octave in np.unique(octaves)]
    return [(indices, cKDTree(origins[indices]), float(radii[indices].max())) for indices in members]
