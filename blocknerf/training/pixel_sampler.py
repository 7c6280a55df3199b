"""Sample random pixels of a block's images, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.training.image_cache import ImageCache

MAX_REDRAWS = 6
"""Maximum number of redraws for a ray that hits a masked pixel."""

Slots = Int[Tensor, "rays"]
Positions = Float[Tensor, "rays 2"]
Depths = Float[Tensor, "depth_rays"]


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
    """Samples random unmasked pixels from images in the memory of one device (`ImageCache`).

    Every batch has the requested number of rays. A ray that hits a masked pixel is drawn again; if all its draws are
    masked, it uses its image's fallback pixel. The first rays go through measured points. If refined poses moved a
    point out of the image or into its mask, a random pixel without a measurement takes its place.

    On a GPU, all shapes are fixed and no operation synchronizes, so drawing can be captured in a CUDA graph; all
    redraws are then drawn in advance. On the CPU, only the masked rays are drawn again, from random numbers that depend
    only on the seed and the step.
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
        fixed_shapes: bool | None = None,
    ) -> None:
        """Create a sampler without images; `batch` loads them.

        Args:
            capture: Images and cameras.
            frames: Indices of the training frames.
            downscale: Factor by which images are downscaled.
            budget_bytes: Memory for images and measured points.
            seed: Random seed.
            use_depth: Whether to draw rays through measured points.
            device: Device of the images and batches.
            fixed_shapes: Whether to draw as on a GPU; by default, if the device is one.

        Raises:
            TrainingError: One image exceeds the budget.
        """
        self.capture, self.frames, self.seed = capture, tuple(frames), seed
        self.device = torch.device(device)
        self.fixed_shapes = self.device.type != "cpu" if fixed_shapes is None else fixed_shapes
        self._cache = cache = ImageCache(
            capture,
            frames,
            downscale=downscale,
            budget_bytes=budget_bytes,
            seed=seed,
            use_depth=use_depth,
            device=device,
        )
        self.input_cameras, self.slots, self.has_depth = cache.cameras, cache.slots, cache.has_depth
        # A copy, since `set_cameras` changes its poses in place.
        self.cameras = Cameras.cat([cache.cameras]).to(device)
        """Cameras of the images; `set_cameras` sets refined poses."""
        # Without it, the iterations that undistort are counted for each set of rays, which synchronizes.
        self.distortion_info = cache.cameras.distortion_info() if self.fixed_shapes else None
        self._sizes = torch.stack([self.cameras.width, self.cameras.height], -1)
        self._frame_of_slot = torch.zeros(self.slots, dtype=torch.int64, device=device)
        self._counts, self._fallback = torch.zeros_like(self._frame_of_slot), torch.zeros(self.slots, 2, device=device)
        # The slots with measured points, and their number.
        self._depth_slots = torch.zeros_like(self._frame_of_slot)
        self._depth_slot_count = torch.zeros((), dtype=torch.int64, device=device)

    def set_cameras(self, cameras: Cameras) -> None:
        """Set the camera poses of the images."""
        self.cameras.camera_to_world.copy_(cameras.camera_to_world)

    def prefetch(self, step: int) -> None:
        """Load the images of a step. `batch` does so too, but in a captured step they must be loaded before."""
        cache = self._cache
        if not cache.prefetch(step):
            return
        depth_slots = cache.depth_point_counts.nonzero()[0]
        self._frame_of_slot.copy_(torch.from_numpy(cache.frame_of_slot))
        self._counts.copy_(torch.from_numpy(cache.depth_point_counts))
        self._fallback.copy_(torch.from_numpy(cache.fallback_pixel))
        self._depth_slots[: len(depth_slots)].copy_(torch.from_numpy(depth_slots))
        self._depth_slot_count.fill_(len(depth_slots))

    def batch(self, step: int, rays: int, depth_rays: int, generator: torch.Generator | None = None) -> PixelBatch:
        """Return the pixels of a step.

        Args:
            step: Step number, counted from zero.
            rays: Number of pixels.
            depth_rays: Number of rays through measured points, if there are any.
            generator: Random generator on the device, if shapes are fixed.
        """
        self.prefetch(step)
        depth_rays = depth_rays if self.has_depth else 0
        if self.fixed_shapes:
            slots, positions, depths = self._draw_fixed(generator, rays, depth_rays)
        else:
            slots, positions, depths = self._draw(np.random.default_rng((self.seed, step)), rays, depth_rays)
        index, sky = self._flat_index(slots, positions), self._cache.sky
        return PixelBatch(
            frames=self._frame_of_slot[slots],
            pixels=positions,
            colors=self._cache.colors[slots, index].float() / 255.0,
            depths=depths,
            sky=index.new_zeros(0, dtype=torch.int8) if sky is None else sky[slots, index],
        )

    def _draw(self, random: np.random.Generator, rays: int, depth_rays: int) -> tuple[Slots, Positions, Depths]:
        slots, positions, depths = self._draw_points(random, depth_rays)
        random_slots, random_positions = self._draw_pixels(random, rays - len(slots))
        return torch.cat([slots, random_slots]), torch.cat([positions, random_positions]), depths

    def _draw_points(self, random: np.random.Generator, count: int) -> tuple[Slots, Positions, Depths]:
        candidates = self._depth_slots[: int(self._depth_slot_count)]
        if count < 1 or not len(candidates):
            return self._depth_slots[:0], self._fallback[:0], self._fallback[:0, 0]
        slots = candidates[torch.from_numpy(random.integers(0, len(candidates), count))]
        numbers = torch.from_numpy(random.random(count)) * self._counts[slots]
        positions, depths = self._project_points(slots, numbers.long())
        valid = depths > 0.0
        return slots[valid], positions[valid], depths[valid]

    def _draw_pixels(self, random: np.random.Generator, count: int) -> tuple[Slots, Positions]:
        slots, positions = self._draw_uniform(random, count)
        for _ in range(MAX_REDRAWS):
            masked = (~self._is_valid(slots, positions)).nonzero()[:, 0]
            if not len(masked):
                break
            slots[masked], positions[masked] = self._draw_uniform(random, len(masked))
        return slots, self._replace_masked(slots, positions)

    def _draw_uniform(self, random: np.random.Generator, count: int) -> tuple[Slots, Positions]:
        slots = torch.from_numpy(random.integers(0, self.slots, count))
        size = self._sizes[self._frame_of_slot[slots]].numpy()
        return slots, torch.from_numpy(np.floor(random.random((count, 2)) * size) + 0.5).float()

    def _draw_fixed(
        self, generator: torch.Generator | None, rays: int, depth_rays: int
    ) -> tuple[Slots, Positions, Depths]:
        slots, positions = self._draw_pixels_fixed(generator, rays)
        if depth_rays < 1:
            return slots, positions, positions.new_zeros(0)
        depth_slots, depth_positions, depths = self._draw_points_fixed(generator, depth_rays)
        valid = depths > 0.0
        slots = torch.cat([torch.where(valid, depth_slots, slots[:depth_rays]), slots[depth_rays:]])
        first = torch.where(valid[:, None], depth_positions, positions[:depth_rays])
        return slots, torch.cat([first, positions[depth_rays:]]), depths

    def _draw_points_fixed(self, generator: torch.Generator | None, count: int) -> tuple[Slots, Positions, Depths]:
        uniform = torch.rand(2, count, generator=generator, device=self.device)
        slots = self._depth_slots[_random_index(uniform[0], self._depth_slot_count)]
        counts = self._counts[slots]
        positions, depths = self._project_points(slots, _random_index(uniform[1], counts))
        return slots, positions, torch.where(counts > 0, depths, 0.0)

    def _draw_pixels_fixed(self, generator: torch.Generator | None, count: int) -> tuple[Slots, Positions]:
        # All redraws are drawn in advance: redrawing only the masked pixels would need a synchronization.
        draws = 1 + (MAX_REDRAWS if self._cache.valid is not None else 0)
        slots = torch.randint(0, self.slots, (draws, count), generator=generator, device=self.device)
        size = self._sizes[self._frame_of_slot[slots]]
        uniform = torch.rand(draws, count, 2, generator=generator, device=self.device)
        # A number just below 1 may round up to the size in the product.
        positions = torch.minimum((uniform * size).floor(), size - 1.0) + 0.5
        if self._cache.valid is None:
            return slots[0], positions[0]
        first = self._is_valid(slots, positions).long().argmax(0)[None]
        slots = slots.gather(0, first)[0]
        positions = positions.gather(0, first[..., None].expand(1, count, 2))[0]
        return slots, self._replace_masked(slots, positions)

    def _project_points(self, slots: Slots, numbers: Int[Tensor, "rays"]) -> tuple[Positions, Depths]:
        """Return positions and distances of measured points of some images; 0 if a point is not in the image."""
        points, frames = self._cache.depth_points[slots, numbers], self._frame_of_slot[slots]
        pixels, _, inside = self.cameras.project(points, frames, self.distortion_info)
        positions = torch.where(inside[:, None], pixels, 0.5)
        distances = (points - self.cameras.centers[frames]).norm(dim=-1)
        return positions, torch.where(inside & self._is_valid(slots, positions), distances, 0.0)

    def _replace_masked(self, slots: Slots, positions: Positions) -> Positions:
        if self._cache.valid is None:
            return positions
        return torch.where(self._is_valid(slots, positions)[:, None], positions, self._fallback[slots])

    def _is_valid(self, slots: Int[Tensor, "*rays"], positions: Float[Tensor, "*rays 2"]) -> Bool[Tensor, "*rays"]:
        valid = self._cache.valid
        if valid is None:
            return torch.ones_like(slots, dtype=torch.bool)
        return valid[slots, self._flat_index(slots, positions)]

    def _flat_index(self, slots: Int[Tensor, "*rays"], positions: Float[Tensor, "*rays 2"]) -> Int[Tensor, "*rays"]:
        """Return indices into the flattened images."""
        column, row = positions.long().unbind(-1)
        return row * self._sizes[self._frame_of_slot[slots], 0] + column


def _random_index(uniform: Float[Tensor, "rays"], counts: Int[Tensor, "*rays"]) -> Int[Tensor, "rays"]:
    """Map uniform numbers in [0, 1) to indices below each count; 0 where the count is 0."""
    return torch.minimum((uniform * counts).long(), (counts - 1).clamp_min(0))
