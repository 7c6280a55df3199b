"""Random pixels of a block's photographs, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.training.residence import ResidentPhotographs, cells_of

MASK_DRAWS = 6
"""Draws before a ray that only ever hit masked pixels is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBatch:
    """Pixels to learn from."""

    frames: Int[Tensor, "rays"]
    """Position in the block's list of training frames."""
    pixels: Float[Tensor, "rays 2"]
    """Image positions (x, y); pixel centres at 0.5."""
    colors: Float[Tensor, "rays 3"]
    depths: Float[Tensor, "measured"]
    """Measured distances of the first rays of the batch; 0 for a ray that has none after all."""
    sky: Int8[Tensor, "known"]
    """1 where all that a pixel shows is sky, 0 where none is, -1 between and where that is not known of the frame.

    Empty where it is known of no frame.
    """


class PixelSource:
    """Draws random usable pixels; the same step always gives the same pixels, whatever happened before.

    Photographs stay in memory as bytes, up to a budget (`ResidentPhotographs`).
    """

    def __init__(
        self, capture: Capture, frames: Sequence[int], *, downscale: int, budget_bytes: int, seed: int, use_depth: bool
    ) -> None:
        self.capture, self.frames, self.seed = capture, tuple(frames), seed
        self._photographs = ResidentPhotographs(
            capture, frames, downscale=downscale, budget_bytes=budget_bytes, seed=seed, use_depth=use_depth
        )
        self.given = self._photographs.cameras
        self.cameras = self.given
        """Where the photographs are taken to be from; refined poses are set here."""
        self.lenses = None  # to be looked at ray by ray
        self.slots, self.resident = self._photographs.slots, self._photographs.resident
        self.colors, self._measured = self._photographs.colors.numpy(), self._photographs.measured.numpy()
        self._measured_counts = self._photographs.measured_counts
        usable, sky = self._photographs.usable, self._photographs.sky
        self.usable, self.sky = None if usable is None else usable.numpy(), None if sky is None else sky.numpy()

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points to measure depths by."""
        return self._photographs.has_depth

    def show(self, step: int) -> None:
        """Bring in what a step draws from; `batch` would, too."""
        self._photographs.show(step)

    def place(self, cameras: Cameras) -> None:
        """Take the photographs to be from elsewhere."""
        self.cameras = cameras

    def batch(self, step: int, rays: int, depth_rays: int) -> PixelBatch:
        """The pixels of one step; up to `depth_rays` of them, the first, have a measured depth."""
        self.show(step)
        generator = np.random.default_rng((self.seed, step))
        slots, positions, depths = self._draw_measured(generator, depth_rays)
        more, places = self._draw_pixels(generator, rays - len(slots))
        slots, positions = np.concatenate([slots, more]), np.concatenate([positions, places])
        frames = self.resident[slots]
        cells = cells_of(positions, self.cameras.width.numpy()[frames])
        return PixelBatch(
            frames=torch.from_numpy(frames),
            pixels=torch.from_numpy(positions.astype(np.float32)),
            colors=torch.from_numpy(self.colors[slots, cells].astype(np.float32) / 255.0),
            depths=torch.from_numpy(depths),
            sky=torch.from_numpy(np.empty(0, np.int8) if self.sky is None else self.sky[slots, cells]),
        )

    def _draw_measured(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        candidates = np.flatnonzero(self._measured_counts)
        if not len(candidates) or count <= 0:
            return np.empty(0, np.int64), np.empty((0, 2), np.float32), np.empty(0, np.float32)
        slots = generator.choice(candidates, count)
        picks = (generator.random(count) * self._measured_counts[slots]).astype(np.int64)
        frames, points = torch.from_numpy(self.resident[slots]), torch.from_numpy(self._measured[slots, picks])
        pixels, _, inside = self.cameras.project(points, frames)
        distances = (points - self.cameras.centers[frames]).norm(dim=-1)
        # Refined poses may have moved a point out of the picture or into its mask.
        rows = np.flatnonzero(inside.numpy())
        rows = rows[self._is_usable(slots[rows], pixels.numpy()[rows])]
        return slots[rows], pixels.numpy()[rows], distances.numpy()[rows]

    def _draw_pixels(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        slots, positions = self._draw_uniform(generator, count)
        if self.usable is None:
            return slots, positions
        for _ in range(MASK_DRAWS):
            bad = np.flatnonzero(~self._is_usable(slots, positions))
            if not len(bad):
                break
            slots[bad], positions[bad] = self._draw_uniform(generator, len(bad))
        good = self._is_usable(slots, positions)
        return slots[good], positions[good]

    def _draw_uniform(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        slots = generator.integers(0, self.slots, count)
        frames = self.resident[slots]
        size = np.stack([self.cameras.width.numpy()[frames], self.cameras.height.numpy()[frames]], -1)
        return slots, np.floor(generator.random((count, 2)) * size) + 0.5

    def _is_usable(self, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        width = self.cameras.width.numpy()[self.resident[slots]]
        return np.ones(len(slots), np.bool_) if self.usable is None else self.usable[slots, cells_of(positions, width)]
