"""A block's photographs as bytes on a device, in bounded memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.errors import TrainingError
from blocknerf.images import FULL_COVERAGE
from blocknerf.training.sparse_depth import median_point_spacing, project_depths

ROTATE_STEPS = 100
"""Steps between exchanges of photographs, where not all fit into memory at once."""
ROTATE_FRACTION = 0.125
MAX_DEPTH_POINTS = 1 << 14
"""Measured depths kept of one photograph: plenty to draw from, and bounded memory whatever the LiDAR."""


class ImageCache:
    """Photographs, and what masks and points say of their pixels, each in a slot of its own.

    Where they exceed a budget of bytes, a window over a fixed random order of the frames is resident, and moves on
    every `ROTATE_STEPS` steps. What moves in is copied into the slot of what moves out, in place, so that whoever
    holds the tensors, as a CUDA graph does, sees it.
    """

    def __init__(
        self,
        capture: Capture,
        frames: Sequence[int],
        *,
        downscale: int,
        budget_bytes: int,
        seed: int,
        use_depth: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capture, self.frames, self.downscale, self.seed = capture, tuple(frames), downscale, seed
        self.cameras = capture.cameras()[torch.tensor(self.frames)].scaled(1.0 / downscale)
        """Where the photographs were given to be from; on the processor."""
        area = int((self.cameras.width * self.cameras.height).max())
        masked = any(capture.frames[i].mask for i in self.frames)
        knows_sky = any(capture.frames[i].sky_mask for i in self.frames)
        self._clouds = self._read_clouds() if use_depth else []
        points = [min(MAX_DEPTH_POINTS, len(cloud)) for cloud, _ in self._clouds]
        self.slots = min(len(self.frames), budget_bytes // (area * (3 + masked + knows_sky) + 12 * sum(points)))
        if self.slots < 1:
            raise TrainingError(
                f"one image of {area} pixels exceeds the image cache of {budget_bytes / (1 << 30):.2g} GiB; "
                "raise --image-cache-gb or --downscale"
            )
        self._order = np.random.default_rng(seed).permutation(len(self.frames))
        self.frame_of_slot = np.full(self.slots, -1)
        """The frame in each slot."""
        self.colors = torch.empty(self.slots, area, 3, dtype=torch.uint8, device=device)
        self.valid = torch.empty(self.slots, area, dtype=torch.bool, device=device) if masked else None
        self.sky = torch.empty(self.slots, area, dtype=torch.int8, device=device) if knows_sky else None
        self.depth_points = torch.zeros(self.slots, max(points, default=0), 3, device=device)
        """Measured points that each photograph sees."""
        self.depth_point_counts = np.zeros(self.slots, np.int64)
        self.fallback_pixel = np.zeros((self.slots, 2), np.float32)
        """A usable pixel (x, y) of each photograph."""
        self._pool = ThreadPoolExecutor(max_workers=1)

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points to measure depths by."""
        return bool(self._clouds)

    def prefetch(self, step: int) -> bool:
        """Bring in what a step may draw from, and say whether anything was exchanged for it."""
        window = self._window(step // ROTATE_STEPS)
        changed = np.flatnonzero(self.frame_of_slot != window)
        if len(changed):
            list(self._pool.map(self._load, changed.tolist(), window[changed].tolist()))
        return bool(len(changed))

    def _window(self, turn: int) -> Int[np.ndarray, "slots"]:
        if self.slots == len(self.frames):
            return np.arange(self.slots)
        shift = turn * max(1, int(self.slots * ROTATE_FRACTION))
        # A frame keeps its slot while it stays in the window: position in the cycle, modulo the slots.
        positions = shift + (np.arange(self.slots) - shift) % self.slots
        return self._order[positions % len(self.frames)]

    def _load(self, slot: int, frame: int) -> None:
        index = self.frames[frame]
        image = self.capture.read_image(index, self.downscale)
        count = image.shape[0] * image.shape[1]
        _copy_into(self.colors[slot], image.reshape(-1, 3))
        usable = np.ones(count, np.bool_)
        if self.valid is not None:
            mask = self.capture.read_mask(index, self.downscale)
            usable = usable if mask is None else mask.reshape(-1)
            if not usable.any():
                raise TrainingError(f"{self.capture.frames[index].name}: its mask leaves no pixel; remove the frame")
            _copy_into(self.valid[slot], usable)
            places = np.flatnonzero(usable)
            row, column = divmod(int(places[len(places) // 2]), image.shape[1])
            self.fallback_pixel[slot] = column + 0.5, row + 0.5
        if self.sky is not None:
            share = self.capture.read_sky_mask(index, self.downscale)
            _copy_into(self.sky[slot], np.full(count, -1, np.int8) if share is None else _sky_or_not(share).reshape(-1))
        self.frame_of_slot[slot] = frame
        if self._clouds:
            self._project_points(frame, slot, image, usable)

    def _project_points(
        self, frame: int, slot: int, image: UInt8[np.ndarray, "height width 3"], usable: Bool[np.ndarray, "pixels"]
    ) -> None:
        # What hides what is judged from the given poses, so that it does not depend on when a photograph was loaded.
        parts = [project_depths(cloud, self.cameras, frame, spacing, image) for cloud, spacing in self._clouds]
        points, pixels = (
            np.concatenate([getattr(part, key).numpy() for part in parts]) for key in ("points", "pixels")
        )
        points = points[usable[flat_index(pixels, int(self.cameras.width[frame]))]]
        if len(points) > MAX_DEPTH_POINTS:
            points = points[np.random.default_rng((self.seed, frame)).permutation(len(points))[:MAX_DEPTH_POINTS]]
        _copy_into(self.depth_points[slot], points)
        self.depth_point_counts[slot] = len(points)

    def _read_clouds(self) -> list:
        clouds = [
            cloud
            for cloud in (self.capture.read_lidar_points(), self.capture.read_sparse_points())
            if cloud is not None
        ]
        # Where LiDAR swept the scene its points are denser and surer than those of structure from motion.
        return [(cloud, median_point_spacing(cloud.positions)) for cloud in clouds[:1] if len(cloud.positions)]


def _sky_or_not(share: Float[np.ndarray, "height width"]) -> Int8[np.ndarray, "height width"]:
    """A pixel at the edge of the sky is neither: its ray should pass in part."""
    return np.where(share > FULL_COVERAGE, 1, np.where(share < 1.0 - FULL_COVERAGE, 0, -1)).astype(np.int8)


def _copy_into(slot: Shaped[Tensor, "places *values"], values: Shaped[np.ndarray, "count *values"]) -> None:
    """Copy into the first places of a slot."""
    slot[: len(values)] = torch.tensor(values, device="cpu")


def flat_index(positions: np.ndarray, width: int | np.ndarray) -> np.ndarray:
    """Places in the flattened photograph."""
    return positions[:, 1].astype(np.int64) * width + positions[:, 0].astype(np.int64)
