"""Random pixels of a block's photographs, in bounded memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int8, UInt8
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.errors import TrainingError
from blocknerf.images import WHOLE
from blocknerf.training.depths import point_spacing, project_depths

ROTATE_STEPS = 100
"""Steps between exchanges of photographs, where not all fit into memory at once."""
ROTATE_SHARE = 0.125
MEASURED = 1 << 14
"""Measured depths kept of one photograph: plenty to draw from, and bounded memory whatever the LiDAR."""
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
    """Measured distances of the first rays of the batch."""
    sky: Int8[Tensor, "known"]
    """1 where all that a pixel shows is sky, 0 where none is, -1 between and where that is not known of the frame.

    Empty where it is known of no frame.
    """


class PixelSource:
    """Draws random usable pixels; the same step always gives the same pixels, whatever happened before.

    Photographs stay in memory as bytes, up to a budget. Where they exceed it, a window over a fixed random
    order of the frames is resident, and moves on every `ROTATE_STEPS` steps.
    """

    def __init__(
        self, capture: Capture, frames: Sequence[int], *, downscale: int, budget_bytes: int, seed: int, use_depth: bool
    ) -> None:
        self.capture, self.frames, self.downscale, self.seed = capture, tuple(frames), downscale, seed
        self.given = capture.cameras()[torch.tensor(self.frames)].scaled(1.0 / downscale)
        self.cameras = self.given
        """Where the photographs are taken to be from; refined poses are set here."""
        area = int((self.cameras.width * self.cameras.height).max())
        self.masked = any(capture.frames[i].mask for i in self.frames)
        self.knows_sky = any(capture.frames[i].sky for i in self.frames)
        self._clouds = self._read_clouds() if use_depth else []
        pixel_bytes = 3 + self.masked + self.knows_sky
        slot_bytes = area * pixel_bytes + sum(12 * min(MEASURED, len(cloud)) for cloud, _ in self._clouds)
        self.slots = min(len(self.frames), budget_bytes // slot_bytes)
        if self.slots < 1:
            raise TrainingError(
                f"one photograph of {area} pixels exceeds the memory budget of {budget_bytes >> 20} MiB; "
                "raise --memory or --downscale"
            )
        generator = np.random.default_rng(seed)
        self.order = generator.permutation(len(self.frames))
        self.colors = np.empty((self.slots, area, 3), np.uint8)
        self.usable = np.empty((self.slots, area), np.bool_) if self.masked else None
        self.sky = np.empty((self.slots, area), np.int8) if self.knows_sky else None
        self.resident = np.full(self.slots, -1)
        room = max((min(MEASURED, len(cloud)) for cloud, _ in self._clouds), default=0)
        # The measured points that a photograph sees, and how many there are.
        self._measured = np.empty((self.slots, room, 3), np.float32)
        self._measured_counts = np.zeros(self.slots, np.int64)
        self._pool = ThreadPoolExecutor(max_workers=1)

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points to measure depths by."""
        return bool(self._clouds)

    def batch(self, step: int, rays: int, depth_rays: int) -> PixelBatch:
        """The pixels of one step; up to `depth_rays` of them, the first, have a measured depth."""
        self._fill(self._window(step // ROTATE_STEPS))
        generator = np.random.default_rng((self.seed, step))
        slots, positions, depths = self._draw_measured(generator, depth_rays)
        more, places = self._draw_pixels(generator, rays - len(slots))
        slots, positions = np.concatenate([slots, more]), np.concatenate([positions, places])
        frames = self.resident[slots]
        cells = _cells(positions, self.cameras.width.numpy()[frames])
        return PixelBatch(
            frames=torch.from_numpy(frames),
            pixels=torch.from_numpy(positions.astype(np.float32)),
            colors=torch.from_numpy(self.colors[slots, cells].astype(np.float32) / 255.0),
            depths=torch.from_numpy(depths),
            sky=torch.from_numpy(np.empty(0, np.int8) if self.sky is None else self.sky[slots, cells]),
        )

    def _window(self, turn: int) -> Int[np.ndarray, "slots"]:
        if self.slots == len(self.frames):
            return np.arange(self.slots)
        shift = turn * max(1, int(self.slots * ROTATE_SHARE))
        # A frame keeps its slot while it stays in the window: position in the cycle, modulo the slots.
        positions = shift + (np.arange(self.slots) - shift) % self.slots
        return self.order[positions % len(self.frames)]

    def _fill(self, window: Int[np.ndarray, "slots"]) -> None:
        changed = np.flatnonzero(self.resident != window)
        if len(changed):
            list(self._pool.map(self._load, changed.tolist(), window[changed].tolist()))

    def _load(self, slot: int, frame: int) -> None:
        index = self.frames[frame]
        image = self.capture.read_image(index, self.downscale)
        count = image.shape[0] * image.shape[1]
        self.colors[slot, :count] = image.reshape(-1, 3)
        if self.usable is not None:
            mask = self.capture.read_mask(index, self.downscale)
            self.usable[slot, :count] = True if mask is None else mask.reshape(-1)
            if not self.usable[slot, :count].any():
                raise TrainingError(f"{self.capture.frames[index].name}: its mask leaves no pixel; remove the frame")
        if self.sky is not None:
            share = self.capture.read_sky(index, self.downscale)
            self.sky[slot, :count] = -1 if share is None else _sky_or_not(share).reshape(-1)
        self.resident[slot] = frame
        if self._clouds:
            self._measure(frame, slot, image)

    def _measure(self, frame: int, slot: int, image: UInt8[np.ndarray, "height width 3"]) -> None:
        # What hides what is judged from the given poses, so that it does not depend on when a photograph was loaded.
        parts = [project_depths(cloud, self.given, frame, spacing, image) for cloud, spacing in self._clouds]
        points, pixels = (
            np.concatenate([getattr(part, key).numpy() for part in parts]) for key in ("points", "pixels")
        )
        if self.usable is not None:
            points = points[self.usable[slot][_cells(pixels, int(self.given.width[frame]))]]
        if len(points) > MEASURED:
            points = points[np.random.default_rng((self.seed, frame)).permutation(len(points))[:MEASURED]]
        self._measured[slot, : len(points)] = points
        self._measured_counts[slot] = len(points)

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
        return np.ones(len(slots), np.bool_) if self.usable is None else self.usable[slots, _cells(positions, width)]

    def _read_clouds(self) -> list:
        clouds = [cloud for cloud in (self.capture.read_lidar(), self.capture.read_points()) if cloud is not None]
        # Where LiDAR swept the scene its points are denser and surer than those of structure from motion.
        return [(cloud, point_spacing(cloud.positions)) for cloud in clouds[:1] if len(cloud.positions)]


def _sky_or_not(share: Float[np.ndarray, "height width"]) -> Int8[np.ndarray, "height width"]:
    """A pixel at the edge of the sky is neither: its ray should pass in part."""
    return np.where(share > WHOLE, 1, np.where(share < 1.0 - WHOLE, 0, -1)).astype(np.int8)


def _cells(positions: np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Places in the flattened photograph."""
    return positions[:, 1].astype(np.int64) * width + positions[:, 0].astype(np.int64)
