"""Where large errors crowd in a photograph: there something moved, and no mask says so."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.training import losses

CELLS, SMALLEST_CELL = 48, 4.0
"""Cells along a photograph's longer side, and the fewest pixels along a cell's: a car is several cells wide, and
draft training looks into the nine around a pixel a hundred times."""
CELL_MEMORY, FRAME_MEMORY = 0.9, 0.98
"""Share of what a cell or a photograph knew that is left after another of its pixels was seen: errors fall."""
PSEUDO_COUNT = 2.0
"""As many pixels that are no outliers are counted in every neighborhood, so that one alone is no crowd."""
OUTLIER_FRACTION = 0.3
"""Share of outliers around a pixel from which on it is one of many."""


class InlierTracker:
    """The running share of outliers around each pixel of each photograph, as RobustNeRF takes it of a patch.

    It is kept on the processor, wherever the field is trained.

    Rays are random pixels here, whose surroundings are seldom in the same step, so cells of pixels remember them.
    Errors count in units of what is usual for their photograph: else those of the brightest would be all outliers.
    """

    def __init__(self, cameras: Cameras) -> None:
        self.sizes = (torch.maximum(cameras.width, cameras.height) / CELLS).clamp_min(SMALLEST_CELL)
        rows = int((cameras.height / self.sizes).ceil().max())
        columns = int((cameras.width / self.sizes).ceil().max())
        self.cells = torch.zeros(len(self.sizes), rows, columns, 2, device="cpu")
        """Sum of outliers, and number of pixels seen, in each cell of each photograph; both fade."""
        self.frames = torch.zeros(len(self.sizes), 2, device="cpu")
        """Sum of errors, and number of pixels seen, in each photograph; both fade."""

    def inlier_mask(
        self, frames: Int[Tensor, "rays"], pixels: Float[Tensor, "rays 2"], errors: Float[Tensor, "rays"], share: float
    ) -> Bool[Tensor, "rays"]:
        """All rays but the outliers in a crowd of outliers: a lone one is detail yet to be learned. Remembers them all.

        Outliers are that share of the rays whose errors are largest.
        """
        place = errors.device
        frames, pixels, errors = frames.cpu(), pixels.cpu(), errors.cpu()
        _ema_update(self.frames, frames, errors, FRAME_MEMORY)
        usual = self.frames[frames, 0] / self.frames[frames, 1]
        outlier_mask = losses.outlier_mask(errors / usual.clamp_min(1e-12), share)
        row, column = self._cells_of_pixels(frames, pixels)
        trusted = ~(outlier_mask & (self._around(frames, row, column) >= OUTLIER_FRACTION))
        cells = (frames * self.cells.shape[1] + row) * self.cells.shape[2] + column
        _ema_update(self.cells.view(-1, 2), cells, outlier_mask.float(), CELL_MEMORY)
        return trusted.to(place)

    def state(self) -> dict[str, Tensor]:
        """What is remembered, for a checkpoint."""
        return {"crowds.cells": self.cells, "crowds.frames": self.frames}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take it back from a checkpoint."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def _cells_of_pixels(self, frames: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the cells that pixels lie in."""
        column, row = (pixels / self.sizes[frames][:, None]).long().unbind(-1)
        return row.clamp(0, self.cells.shape[1] - 1), column.clamp(0, self.cells.shape[2] - 1)

    def _around(
        self, frames: Int[Tensor, "rays"], row: Int[Tensor, "rays"], column: Int[Tensor, "rays"]
    ) -> Float[Tensor, "rays"]:
        """The share of outliers in the nine cells around; at a picture's edge its own cells stand in."""
        steps = torch.tensor([-1, 0, 1], device="cpu")
        rows = (row[:, None] + steps).clamp(0, self.cells.shape[1] - 1)
        columns = (column[:, None] + steps).clamp(0, self.cells.shape[2] - 1)
        outliers, seen = self.cells[frames[:, None, None], rows[:, :, None], columns[:, None, :]].sum((1, 2)).unbind(-1)
        return outliers / (seen + PSEUDO_COUNT)


def _ema_update(
    memory: Float[Tensor, "cells 2"], cells: Int[Tensor, "rays"], values: Float[Tensor, "rays"], kept: float
) -> None:
    """Let the cells that are hit fade, and add to them; in NumPy, where the order of sums is fixed."""
    places, which, hits = np.unique(cells.numpy(), return_inverse=True, return_counts=True)
    sums, flat = np.bincount(which, values.numpy()), memory.numpy()
    flat[places] = flat[places] * kept ** hits[:, None] + np.stack([sums, hits], -1)
