"""Sample random pixels of a block's images, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.training.image_cache import ImageCache, flat_index

MAX_REDRAWS = 6
"""Maximum number of redraws for a ray that hits a masked pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBatch:
    """Training pixels of one step."""

    frames: Int[Tensor, "rays"]
    """Index into the block's list of training frames."""
    pixels: Float[Tensor, "rays 2"]
    """Image positions (x, y); pixel centers at 0.5."""
    colors: Float[Tensor, "rays 3"]
    depths: Float[Tensor, "measured"]
    """Measured distances of the first rays of the batch; 0 for a ray without a measurement."""
    sky: Int8[Tensor, "known"]
    """1 for sky, 0 for no sky, -1 for a partly covered pixel or a frame without a sky mask.

    Empty if no frame has a sky mask.
    """


class PixelSampler:
    """Samples random unmasked pixels. The pixels depend only on the seed and the step, not on earlier calls.

    Images are kept in memory as 8-bit colors, up to a budget (`ImageCache`).
    """

    def __init__(
        self, capture: Capture, frames: Sequence[int], *, downscale: int, budget_bytes: int, seed: int, use_depth: bool
    ) -> None:
        self.capture, self.frames, self.seed = capture, tuple(frames), seed
        self._cache = ImageCache(
            capture, frames, downscale=downscale, budget_bytes=budget_bytes, seed=seed, use_depth=use_depth
        )
        self.input_cameras = self._cache.cameras
        self.cameras = self.input_cameras
        """Cameras of the images; `set_cameras` sets refined poses."""
        self.distortion_info = None  # computed per ray
        self.slots, self.frame_of_slot = self._cache.slots, self._cache.frame_of_slot
        self.colors, self._depth_points = self._cache.colors.numpy(), self._cache.depth_points.numpy()
        self._depth_point_counts = self._cache.depth_point_counts
        valid, sky = self._cache.valid, self._cache.sky
        self.valid, self.sky = None if valid is None else valid.numpy(), None if sky is None else sky.numpy()

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points that measure depth."""
        return self._cache.has_depth

    def prefetch(self, step: int) -> None:
        """Load the images of a step; `batch` does this as well."""
        self._cache.prefetch(step)

    def set_cameras(self, cameras: Cameras) -> None:
        """Set the camera poses of the images."""
        self.cameras = cameras

    def batch(self, step: int, rays: int, depth_rays: int) -> PixelBatch:
        """Return the pixels of one step. Up to `depth_rays` of them have a measured depth; they come first."""
        self.prefetch(step)
        generator = np.random.default_rng((self.seed, step))
        slots, positions, depths = self._draw_depth_points(generator, depth_rays)
        random_slots, random_positions = self._draw_pixels(generator, rays - len(slots))
        slots, positions = np.concatenate([slots, random_slots]), np.concatenate([positions, random_positions])
        frames = self.frame_of_slot[slots]
        index = flat_index(positions, self.cameras.width.numpy()[frames])
        return PixelBatch(
            frames=torch.from_numpy(frames),
            pixels=torch.from_numpy(positions.astype(np.float32)),
            colors=torch.from_numpy(self.colors[slots, index].astype(np.float32) / 255.0),
            depths=torch.from_numpy(depths),
            sky=torch.from_numpy(np.empty(0, np.int8) if self.sky is None else self.sky[slots, index]),
        )

    def _draw_depth_points(
        self, generator: np.random.Generator, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        candidates = np.flatnonzero(self._depth_point_counts)
        if not len(candidates) or count <= 0:
            return np.empty(0, np.int64), np.empty((0, 2), np.float32), np.empty(0, np.float32)
        slots = generator.choice(candidates, count)
        index = (generator.random(count) * self._depth_point_counts[slots]).astype(np.int64)
        frames, points = torch.from_numpy(self.frame_of_slot[slots]), torch.from_numpy(self._depth_points[slots, index])
        pixels, _, inside = self.cameras.project(points, frames)
        distances = (points - self.cameras.centers[frames]).norm(dim=-1)
        # Refined poses may have moved a point out of the image or into its mask.
        rows = np.flatnonzero(inside.numpy())
        rows = rows[self._is_valid(slots[rows], pixels.numpy()[rows])]
        return slots[rows], pixels.numpy()[rows], distances.numpy()[rows]

    def _draw_pixels(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        slots, positions = self._draw_uniform(generator, count)
        if self.valid is None:
            return slots, positions
        for _ in range(MAX_REDRAWS):
            masked = np.flatnonzero(~self._is_valid(slots, positions))
            if not len(masked):
                break
            slots[masked], positions[masked] = self._draw_uniform(generator, len(masked))
        valid = self._is_valid(slots, positions)
        return slots[valid], positions[valid]

    def _draw_uniform(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        slots = generator.integers(0, self.slots, count)
        frames = self.frame_of_slot[slots]
        size = np.stack([self.cameras.width.numpy()[frames], self.cameras.height.numpy()[frames]], -1)
        return slots, np.floor(generator.random((count, 2)) * size) + 0.5

    def _is_valid(self, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        width = self.cameras.width.numpy()[self.frame_of_slot[slots]]
        return np.ones(len(slots), np.bool_) if self.valid is None else self.valid[slots, flat_index(positions, width)]
