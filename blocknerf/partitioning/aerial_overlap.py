"""Overlap of aerial views and blocks: the fraction of each frame's view that each block fills."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array, vstack
from torch import Tensor

from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import CaptureGeometry, subsample_points
from blocknerf.partitioning.disc_index import PositionIndex
from blocknerf.partitioning.view_overlap import sample_view_points
from blocknerf.view_frusta import ViewFrusta

POINTS_PER_BLOCK, MIN_POINTS = 200, 8_000
"""Points that views are compared with, per block and at least; fractions are then accurate to a few percent."""
FRAMES_AT_ONCE = 64
"""Successive frames, which see about the same points, are computed together."""


def aerial_overlap(geometry: CaptureGeometry, blocks: Sequence[Block]) -> csr_array:
    """Return the fraction, 0..1, of each frame's view that is inside each block, as a sparse matrix [frames, blocks].

    Views from the air have unlimited range. They are the points inside the frustum, else samples of it.
    """
    views = _AerialViews(geometry, blocks)
    rows = [views.overlap(frames) for frames in torch.arange(len(geometry)).split(FRAMES_AT_ONCE)]
    return csr_array(vstack(rows))


class _AerialViews:
    def __init__(self, geometry: CaptureGeometry, blocks: Sequence[Block]) -> None:
        self._geometry, self._blocks, self._frusta = geometry, blocks, ViewFrusta(geometry.cameras)
        count = max(POINTS_PER_BLOCK * len(blocks), MIN_POINTS)
        points = geometry.points
        self._points = torch.zeros(0, 3) if points is None else subsample_points(points, count)
        self._index = PositionIndex(self._points)
        self._blocks_of_point = _blocks_of(self._points, blocks)

    def overlap(self, frames: Int[Tensor, "frames"]) -> csr_array:
        """Return the rows of some frames."""
        counts = csr_array((len(frames), len(self._blocks)), dtype=np.float32)
        in_view = np.zeros(len(frames), np.float32)
        near = self._points_near(frames)
        for rows, columns in self._frusta.visible(frames, self._points[near]):
            seen = (np.ones(len(rows), np.float32), (rows.numpy(), near[columns].numpy()))
            counts += csr_array(seen, shape=(len(frames), len(self._points))) @ self._blocks_of_point
            in_view += np.bincount(rows.numpy(), minlength=len(frames))
        counts += self._samples_in_blocks(frames, np.flatnonzero(in_view == 0), in_view)
        fractions = counts.tocoo()
        fractions.data /= in_view[fractions.row]
        return csr_array(fractions)

    def _samples_in_blocks(
        self, frames: Int[Tensor, "frames"], empty: Int[np.ndarray, "empty"], in_view: Float[np.ndarray, "frames"]
    ) -> csr_array:
        """Return the samples in each block of the views without points, and enter their number into `in_view`."""
        samples = sample_view_points(self._geometry, frames[torch.from_numpy(empty)], math.inf)
        in_view[empty] = samples.shape[1]
        found = _blocks_of(samples.flatten(0, 1), self._blocks).tocoo()
        rows = empty[found.row // samples.shape[1]]
        return csr_array((found.data, (rows, found.col)), shape=(len(frames), len(self._blocks)))

    def _points_near(self, frames: Int[Tensor, "frames"]) -> Int[Tensor, "near"]:
        """Return the points that these cameras may see: all if one of them sees the horizon."""
        if len(self._points) == 0:
            return torch.arange(0)
        centers = self._geometry.centers[frames]
        tilts = (-self._geometry.forwards[frames, 2]).clamp(-1.0, 1.0).acos()
        steepest = tilts + self._frusta.half_angles[frames]
        if float(steepest.max()) >= math.pi / 2:
            return torch.arange(len(self._points))
        reach = (centers[:, 2] - self._points[:, 2].min()).clamp_min(0.0) * steepest.tan()
        x, y = centers[:, :2].mean(0).tolist()
        spread = (centers[:, :2] - centers[:, :2].mean(0)).norm(dim=-1).max()
        return self._index.within((x, y), float(spread + reach.max()))


def _blocks_of(positions: Float[Tensor, "positions 3"], blocks: Sequence[Block]) -> csr_array:
    """Return which blocks each position is inside of, as a sparse matrix [positions, blocks] of ones."""
    index = PositionIndex(positions)
    inside = [index.inside(block).numpy() for block in blocks]
    indptr = np.cumsum([0, *map(len, inside)])
    indices = np.concatenate([np.zeros(0, np.int64), *inside])
    by_block = csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=(len(blocks), len(positions)))
    return csr_array(by_block.T)
