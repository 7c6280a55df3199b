"""Detect moving objects without a mask, as image regions with many outlier pixels (RobustNeRF)."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.training import losses

CELLS_PER_SIDE, MIN_CELL_SIZE = 48, 4.0
"""Cells along an image's longer side, and the minimum side of a cell in pixels. A car is several cells wide, and
draft training samples the nine cells around a pixel a hundred times."""
CELL_DECAY, FRAME_DECAY = 0.9, 0.98
"""Decay of the statistics of a cell or an image per sampled pixel; old errors count less because errors fall."""
PSEUDO_COUNT = 2.0
"""Number of inliers added to every neighborhood, so that a single outlier stays below the threshold."""
OUTLIER_FRACTION = 0.3
"""Minimum fraction of outliers around an outlier that is masked."""


class InlierTracker:
    """Running fraction of outliers around each pixel of each image. RobustNeRF computes it within a patch.

    Rays are random pixels here and their neighbors are seldom in the same step, so statistics are kept per cell of
    pixels. Errors are divided by the mean error of their image; otherwise all outliers would be in the brightest
    images. The statistics are on the CPU, whatever the device of the field.
    """

    def __init__(self, cameras: Cameras) -> None:
        self.sizes = (torch.maximum(cameras.width, cameras.height) / CELLS_PER_SIDE).clamp_min(MIN_CELL_SIZE)
        rows = int((cameras.height / self.sizes).ceil().max())
        columns = int((cameras.width / self.sizes).ceil().max())
        self.cells = torch.zeros(len(self.sizes), rows, columns, 2, device="cpu")
        """Decayed sum of outliers and decayed number of sampled pixels in each cell of each image."""
        self.frames = torch.zeros(len(self.sizes), 2, device="cpu")
        """Decayed sum of errors and decayed number of sampled pixels in each image."""

    def inlier_mask(
        self,
        frames: Int[Tensor, "rays"],
        pixels: Float[Tensor, "rays 2"],
        errors: Float[Tensor, "rays"],
        fraction: float,
    ) -> Bool[Tensor, "rays"]:
        """Return a mask of the inliers, and update the statistics with all rays.

        Outliers are the `fraction` of the rays with the largest errors. Those with many outliers around them are
        masked; an isolated outlier is kept because it is usually detail that is not learned yet.
        """
        device = errors.device
        frames, pixels, errors = frames.cpu(), pixels.cpu(), errors.cpu()
        _ema_update(self.frames, frames, errors, FRAME_DECAY)
        mean_error = self.frames[frames, 0] / self.frames[frames, 1]
        outlier_mask = losses.outlier_mask(errors / mean_error.clamp_min(1e-12), fraction)
        row, column = self._cell_indices(frames, pixels)
        inliers = ~(outlier_mask & (self._nearby_outlier_fraction(frames, row, column) >= OUTLIER_FRACTION))
        cells = (frames * self.cells.shape[1] + row) * self.cells.shape[2] + column
        _ema_update(self.cells.view(-1, 2), cells, outlier_mask.float(), CELL_DECAY)
        return inliers.to(device)

    def state(self) -> dict[str, Tensor]:
        """Return the statistics, for a checkpoint."""
        return {"inliers.cells": self.cells, "inliers.frames": self.frames}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the statistics from a checkpoint."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def _cell_indices(self, frames: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return row and column of each pixel's cell."""
        column, row = (pixels / self.sizes[frames][:, None]).long().unbind(-1)
        return row.clamp(0, self.cells.shape[1] - 1), column.clamp(0, self.cells.shape[2] - 1)

    def _nearby_outlier_fraction(
        self, frames: Int[Tensor, "rays"], row: Int[Tensor, "rays"], column: Int[Tensor, "rays"]
    ) -> Float[Tensor, "rays"]:
        """Return the fraction of outliers in the 3 x 3 cells around each pixel; edge cells are repeated."""
        steps = torch.tensor([-1, 0, 1], device="cpu")
        rows = (row[:, None] + steps).clamp(0, self.cells.shape[1] - 1)
        columns = (column[:, None] + steps).clamp(0, self.cells.shape[2] - 1)
        neighborhood = self.cells[frames[:, None, None], rows[:, :, None], columns[:, None, :]]
        outliers, counts = neighborhood.sum((1, 2)).unbind(-1)
        return outliers / (counts + PSEUDO_COUNT)


def _ema_update(
    statistics: Float[Tensor, "cells 2"], cells: Int[Tensor, "rays"], values: Float[Tensor, "rays"], decay: float
) -> None:
    """Decay the statistics of the sampled cells and add the new values; in NumPy, which sums in a fixed order."""
    index, inverse, counts = np.unique(cells.numpy(), return_inverse=True, return_counts=True)
    sums, array = np.bincount(inverse, values.numpy()), statistics.numpy()
    array[index] = array[index] * decay ** counts[:, None] + np.stack([sums, counts], -1)
