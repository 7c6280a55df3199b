"""Random pixels of a block's photographs, drawn where the photographs lie and without waiting for it."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.training.image_cache import ImageCache
from blocknerf.training.pixel_sampler import MAX_REDRAWS, PixelBatch


class DevicePixelSampler:
    """What `PixelSampler` does, by operations on a device that a CUDA graph can hold.

    Shapes never depend on what is drawn. A ray that only ever hits masked pixels takes a usable one that is known of
    its photograph, and a measured point that refined poses moved out of the picture or under its mask gives its ray to
    an ordinary pixel, whose depth is 0: not measured.
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
        self._cache = found = ImageCache(
            capture,
            frames,
            downscale=downscale,
            budget_bytes=budget_bytes,
            seed=seed,
            use_depth=use_depth,
            device=device,
        )
        self.input_cameras, self.slots = found.cameras, found.slots
        self.distortion_info = self.input_cameras.distortion_info()
        # A copy of its own, since poses are moved within it.
        self.cameras = Cameras.cat([self.input_cameras]).to(device)
        self._sizes = torch.stack([self.cameras.width, self.cameras.height], -1)
        self._frame_of_slot = torch.zeros(self.slots, dtype=torch.int64, device=device)
        self._counts, self._fallback = torch.zeros_like(self._frame_of_slot), torch.zeros(self.slots, 2, device=device)
        # The slots with measured points, and how many there are.
        self._candidates = torch.zeros_like(self._frame_of_slot)
        self._candidate_count = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def has_depth(self) -> bool:
        """Whether the capture has points to measure depths by."""
        return self._cache.has_depth

    def set_cameras(self, cameras: Cameras) -> None:
        """Take the photographs to be from elsewhere."""
        self.cameras.camera_to_world.copy_(cameras.camera_to_world)

    def prefetch(self, step: int) -> None:
        """Bring in what a step draws from. The only part that waits; call it before `draw`."""
        found = self._cache
        if not found.prefetch(step):
            return
        candidates = found.depth_point_counts.nonzero()[0]
        self._frame_of_slot.copy_(torch.from_numpy(found.frame_of_slot))
        self._counts.copy_(torch.from_numpy(found.depth_point_counts))
        self._fallback.copy_(torch.from_numpy(found.fallback_pixel))
        self._candidates[: len(candidates)].copy_(torch.from_numpy(candidates))
        self._candidate_count.fill_(len(candidates))

    def draw(self, generator: torch.Generator, rays: int, depth_rays: int) -> PixelBatch:
        """The pixels of a step, of which the first `depth_rays` go through measured points where there are any."""
        slots, positions = self._draw_usable(generator, rays)
        depths = positions.new_zeros(0)
        if self.has_depth and depth_rays > 0:
            mine, places, depths = self._draw_depth_points(generator, depth_rays)
            good = depths > 0.0
            slots = torch.cat([torch.where(good, mine, slots[:depth_rays]), slots[depth_rays:]])
            first = torch.where(good[:, None], places, positions[:depth_rays])
            positions = torch.cat([first, positions[depth_rays:]])
        cells, sky = self._cells(slots, positions), self._cache.sky
        return PixelBatch(
            frames=self._frame_of_slot[slots],
            pixels=positions,
            colors=self._cache.colors[slots, cells].float() / 255.0,
            depths=depths,
            sky=cells.new_zeros(0, dtype=torch.int8) if sky is None else sky[slots, cells],
        )

    def _draw_usable(
        self, generator: torch.Generator, count: int
    ) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"]]:
        # All draws at once: a redraw for the few that need one would need to know which.
        draws, device = 1 + (MAX_REDRAWS if self._cache.valid is not None else 0), self._frame_of_slot.device
        slots = torch.randint(0, self.slots, (draws, count), generator=generator, device=device)
        size = self._sizes[self._frame_of_slot[slots]]
        shares = torch.rand(draws, count, 2, generator=generator, device=device)
        # A share just below one may round up to it in the product.
        positions = torch.minimum((shares * size).floor(), size - 1.0) + 0.5
        if self._cache.valid is None:
            return slots[0], positions[0]
        good = self._is_usable(slots, positions)
        first = good.long().argmax(0)[None]
        slots = slots.gather(0, first)[0]
        positions = positions.gather(0, first[..., None].expand(1, count, 2))[0]
        return slots, torch.where(good.any(0)[:, None], positions, self._fallback[slots])

    def _draw_depth_points(
        self, generator: torch.Generator, count: int
    ) -> tuple[Int[Tensor, "rays"], Float[Tensor, "rays 2"], Float[Tensor, "rays"]]:
        """Slots, positions and distances of measured points; 0 where a point cannot be used."""
        shares = torch.rand(2, count, generator=generator, device=self._frame_of_slot.device)
        slots = self._candidates[_random_index(shares[0], self._candidate_count)]
        counts = self._counts[slots]
        points, frames = self._cache.depth_points[slots, _random_index(shares[1], counts)], self._frame_of_slot[slots]
        pixels, _, inside = self.cameras.project(points, frames, self.distortion_info)
        positions = torch.where(inside[:, None], pixels, 0.5)
        good = inside & self._is_usable(slots, positions) & (counts > 0)
        distances = (points - self.cameras.centers[frames]).norm(dim=-1)
        return slots, positions, torch.where(good, distances, 0.0)

    def _is_usable(self, slots: Int[Tensor, "*rays"], positions: Float[Tensor, "*rays 2"]) -> Bool[Tensor, "*rays"]:
        usable = self._cache.valid
        return (
            torch.ones_like(slots, dtype=torch.bool) if usable is None else usable[slots, self._cells(slots, positions)]
        )

    def _cells(self, slots: Int[Tensor, "*rays"], positions: Float[Tensor, "*rays 2"]) -> Int[Tensor, "*rays"]:
        """Places in the flattened photographs."""
        column, row = positions.long().unbind(-1)
        return row * self._sizes[self._frame_of_slot[slots], 0] + column


def _random_index(shares: Float[Tensor, "rays"], counts: Int[Tensor, "*rays"]) -> Int[Tensor, "rays"]:
    """A number below each count, in proportion to a share below one; 0 where there is nothing to count."""
    return torch.minimum((shares * counts).long(), (counts - 1).clamp_min(0))
