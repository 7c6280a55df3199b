"""Cache of a block's images on a device, as 8-bit colors in bounded memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.errors import TrainingError
from blocknerf.images import FULL_COVERAGE
from blocknerf.training.sparse_depth import DepthCloud
from blocknerf.view_frusta import ViewFrusta

ROTATE_STEPS = 100
"""Steps between exchanges of images if not all fit into the cache."""
ROTATE_FRACTION = 0.125
"""Fraction of the slots that one exchange replaces."""
MAX_DEPTH_POINTS = 1 << 14
"""Maximum number of measured depths per image; bounds the memory for dense LiDAR."""


class ImageCache:
    """Images with their masks and measured points, one image per slot.

    If the images exceed the budget, the cache holds a window over a fixed random order of the frames and advances the
    window every `ROTATE_STEPS` steps. A new image is copied in place into the slot of an old one, so the tensors stay
    valid for CUDA graphs.
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
        """Input cameras of the images; on the CPU."""
        area = int((self.cameras.width * self.cameras.height).max())
        masked = any(capture.frames[i].mask for i in self.frames)
        has_sky = any(capture.frames[i].sky_mask for i in self.frames)
        self._frusta = ViewFrusta(self.cameras)
        self._cloud = self._read_cloud() if use_depth else None
        self._has_sweeps = use_depth and bool(capture.lidar_sweeps)
        points = 0 if self._cloud is None else min(MAX_DEPTH_POINTS, len(self._cloud))
        points = MAX_DEPTH_POINTS if self._has_sweeps else points
        self.slots = min(len(self.frames), budget_bytes // (area * (3 + masked + has_sky) + 12 * points))
        if self.slots < 1:
            raise TrainingError(
                f"one image of {area} pixels exceeds the image cache of {budget_bytes / (1 << 30):.2g} GiB; "
                "raise --image-cache-gb or --downscale"
            )
        self._order = np.random.default_rng(seed).permutation(len(self.frames))
        self.frame_of_slot = np.full(self.slots, -1)
        """Index into `frames` of the image in each slot; -1 for an empty slot."""
        self.colors = torch.empty(self.slots, area, 3, dtype=torch.uint8, device=device)
        self.valid = torch.empty(self.slots, area, dtype=torch.bool, device=device) if masked else None
        self.sky = torch.empty(self.slots, area, dtype=torch.int8, device=device) if has_sky else None
        self.depth_points = torch.zeros(self.slots, points, 3, device=device)
        """Measured points visible in each image, in world coordinates."""
        self.depth_point_counts = np.zeros(self.slots, np.int64)
        self.fallback_pixel = np.zeros((self.slots, 2), np.float32)
        """A valid pixel (x, y) of each image."""
        self._pool = ThreadPoolExecutor(max_workers=1)

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points that measure depth."""
        return self._cloud is not None or self._has_sweeps

    def prefetch(self, step: int) -> bool:
        """Load the images of a step; return whether any slot changed."""
        window = self._window(step // ROTATE_STEPS)
        changed = np.flatnonzero(self.frame_of_slot != window)
        if len(changed):
            list(self._pool.map(self._load, changed.tolist(), window[changed].tolist()))
        return bool(len(changed))

    def _window(self, rotation: int) -> Int[np.ndarray, "slots"]:
        if self.slots == len(self.frames):
            return np.arange(self.slots)
        shift = rotation * max(1, int(self.slots * ROTATE_FRACTION))
        # A frame keeps its slot while it is in the window: its position in the cycle modulo the number of slots.
        positions = shift + (np.arange(self.slots) - shift) % self.slots
        return self._order[positions % len(self.frames)]

    def _load(self, slot: int, frame: int) -> None:
        index = self.frames[frame]
        image = self.capture.read_image(index, self.downscale)
        count = image.shape[0] * image.shape[1]
        _copy_into(self.colors[slot], image.reshape(-1, 3))
        valid = np.ones(count, np.bool_)
        if self.valid is not None:
            mask = self.capture.read_mask(index, self.downscale)
            valid = valid if mask is None else mask.reshape(-1)
            if not valid.any():
                name = self.capture.frames[index].name
                raise TrainingError(f"{name}: the mask excludes all pixels; remove the frame")
            _copy_into(self.valid[slot], valid)
            valid_pixels = np.flatnonzero(valid)
            row, column = divmod(int(valid_pixels[len(valid_pixels) // 2]), image.shape[1])
            self.fallback_pixel[slot] = column + 0.5, row + 0.5
        if self.sky is not None:
            coverage = self.capture.read_sky_mask(index, self.downscale)
            labels = np.full(count, -1, np.int8) if coverage is None else _sky_labels(coverage).reshape(-1)
            _copy_into(self.sky[slot], labels)
        self.frame_of_slot[slot] = frame
        self.depth_point_counts[slot] = 0
        if cloud := self._cloud_of(frame):
            self._project_points(cloud, frame, slot, image, valid)

    def _project_points(
        self,
        cloud: DepthCloud,
        frame: int,
        slot: int,
        image: UInt8[np.ndarray, "height width 3"],
        valid: Bool[np.ndarray, "pixels"],
    ) -> None:
        # Occlusion is computed with the input poses, so it does not depend on when an image was loaded.
        depths = cloud.project(self._frusta, frame, image)
        points, pixels = depths.points.numpy(), depths.pixels.numpy()
        column, row = pixels.astype(np.int64).T
        points = points[valid[row * int(self.cameras.width[frame]) + column]]
        if len(points) > MAX_DEPTH_POINTS:
            points = points[np.random.default_rng((self.seed, frame)).permutation(len(points))[:MAX_DEPTH_POINTS]]
        _copy_into(self.depth_points[slot], points)
        self.depth_point_counts[slot] = len(points)

    def _cloud_of(self, frame: int) -> DepthCloud | None:
        """Return the points that measure depth in a frame: its sweep, or else all points."""
        sweep = self.capture.read_sweep(self.frames[frame]) if self._has_sweeps else None
        return self._cloud if sweep is None or not len(sweep) else DepthCloud(sweep)

    def _read_cloud(self) -> DepthCloud | None:
        cloud = self.capture.depth_points()
        return None if cloud is None else DepthCloud(cloud)


def _sky_labels(coverage: Float[np.ndarray, "height width"]) -> Int8[np.ndarray, "height width"]:
    """Return 1 for sky, 0 for no sky and -1 for pixels at the edge, where the ray should be partly transparent."""
    return np.where(coverage > FULL_COVERAGE, 1, np.where(coverage < 1.0 - FULL_COVERAGE, 0, -1)).astype(np.int8)


def _copy_into(slot: Shaped[Tensor, "size *values"], values: Shaped[np.ndarray, "count *values"]) -> None:
    """Copy values to the start of a slot."""
    slot[: len(values)] = torch.tensor(values, device="cpu")
