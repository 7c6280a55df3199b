"""Sample random pixels of a block's images on the device that holds them, without synchronization."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.training.image_cache import ImageCache
from blocknerf.training.pixel_sampler import MAX_REDRAWS, PixelBatch


class DevicePixelSampler:
    """Pixel sampler for a GPU; every operation can be captured in a CUDA graph. See `PixelSampler`.

    Shapes never depend on random values. A ray that hits only masked pixels uses its image's fallback pixel. If
    refined poses moved a measured point out of the image or into its mask, the ray uses a random pixel with depth 0
    (not measured).
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
        device: torch.device | str,
    ) -> None:
        self.capture, self.frames = capture, tuple(frames)
        self._cache = cache = ImageCache(
            capture,
            frames,
            downscale=downscale,
            budget_bytes=budget_bytes,
            seed=seed,
            use_depth=use_depth,
            device=device,
        )
        self.input_cameras, self.slots = cache.cameras, cache.slots
        self.distortion_info = self.input_cameras.distortion_info()
        # A copy, since `set_cameras` changes its poses in place.
        self.cameras = Cameras.cat([self.input_cameras]).to(device)
        self._sizes = torch.stack([self.cameras.width, self.cameras.height], -1)
        self._frame_of_slot = torch.zeros(self.slots, dtype=torch.int64, device=device)
        self._counts, self._fallback = torch.zeros_like(self._frame_of_slot), torch.zeros(self.slots, 2, device=device)
        # The slots with measured points, and their number.
        self._depth_slots = torch.zeros_like(self._frame_of_slot)
        self._depth_slot_count = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points that measure depth."""
        return self._cache.has_depth

    def set_cameras(self, cameras: Cameras) -> None:
        """Set the camera poses of the images."""
        self.cameras.camera_to_world.copy_(cameras.camera_to_world)

    def prefetch(self, step: int) -> None:
        """Load the images of a step. Call it before `draw`; it is the only method that synchronizes."""
        cache = self._cache
        if not cache.prefetch(step):
            return
        depth_slots = cache.depth_point_counts.nonzero()[0]
        self._frame_of_slot.copy_(torch.from_numpy(cache.frame_of_slot))
        self._counts.copy_(torch.from_numpy(cache.depth_point_counts))
        self._fallback.copy_(torch.from_numpy(cache.fallback_pixel))
        self._depth_slots[: len(depth_slots)].copy_(torch.from_numpy(depth_slots))
        self._depth_slot_count.fill_(len(depth_slots))

    def draw(self, generator: torch.Generator, rays: int, depth_rays: int) -> PixelBatch:
        """Return the pixels of a step. The first `depth_rays` go through measured points, if there are any."""
        slots, positions = self._draw_usable(generator, rays)
        depths = positions.new_zeros(0)
        if self.has_depth and depth_rays > 0:
            depth_slots, depth_positions, depths = self._draw_depth_points(generator, depth_rays)
            valid = depths > 0.0
            slots = torch.cat([torch.where(valid, depth_slots, slots[:depth_rays]), slots[depth_rays:]])
            first = torch.where(valid[:, None], depth_positions, positions[:depth_rays])
            positions = torch.cat([first, positions[depth_rays:]])
        index, sky = self._flat_index(slots, positions), self._cache.sky
        return PixelBatch(
            frames=self._frame_of_slot[slots],
            pixels=positions,
            colors=self._cache.colors[slots, index].float() / 255.0,
            depths=depths,
            sky=index.new_zeros(0, dtype=torch.int8) if sky is None else sky[slots, index],
        )

    def _draw_usable(
        self, generator: torch.Generator, count: int
    ) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"]]:
        # All redraws are drawn in advance: redrawing only the masked pixels would need a synchronization.
        draws, device = 1 + (MAX_REDRAWS if self._cache.valid is not None else 0), self._frame_of_slot.device
        slots = torch.randint(0, self.slots, (draws, count), generator=generator, device=device)
        size = self._sizes[self._frame_of_slot[slots]]
        uniform = torch.rand(draws, count, 2, generator=generator, device=device)
        # A number just below 1 may round up to the size in the product.
        positions = torch.minimum((uniform * size).floor(), size - 1.0) + 0.5
        if self._cache.valid is None:
            return slots[0], positions[0]
        valid = self._is_valid(slots, positions)
        first = valid.long().argmax(0)[None]
        slots = slots.gather(0, first)[0]
        positions = positions.gather(0, first[..., None].expand(1, count, 2))[0]
        return slots, torch.where(valid.any(0)[:, None], positions, self._fallback[slots])

    def _draw_depth_points(
        self, generator: torch.Generator, count: int
    ) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"], Float[Tensor, "rays"]]:
        """Return slots, positions and distances of measured points; a distance is 0 if the point cannot be used."""
        uniform = torch.rand(2, count, generator=generator, device=self._frame_of_slot.device)
        slots = self._depth_slots[_random_index(uniform[0], self._depth_slot_count)]
        counts = self._counts[slots]
        points, frames = self._cache.depth_points[slots, _random_index(uniform[1], counts)], self._frame_of_slot[slots]
        pixels, _, inside = self.cameras.project(points, frames, self.distortion_info)
        positions = torch.where(inside[:, None], pixels, 0.5)
        valid = inside & self._is_valid(slots, positions) & (counts > 0)
        distances = (points - self.cameras.centers[frames]).norm(dim=-1)
        return slots, positions, torch.where(valid, distances, 0.0)

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
