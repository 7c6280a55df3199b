"""Renderings of the whole city: the blocks around the camera are rendered separately and blended."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.city.appearance import AppearanceQuery, appearance_of, code_for_block, exposure_for_block
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.cache import BlockCache, Loader, block_loader
from blocknerf.city.manifest import City, Weighting, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import BlockInView, BlockSelector, blend_inputs
from blocknerf.city.training_images import trained_frames
from blocknerf.city.weighting import (
    WeightingFunction,
    WeightingRule,
    blend,
    blend_with_fallback,
    fallback_confidence,
    limit_pixel_weights,
    weighting_rule,
)
from blocknerf.errors import RunError
from blocknerf.rendering.image import Rendering, no_op, predict_visibility, render_image

MAX_BLOCKS = 3
"""The paper merges one to three blocks (Tancik et al. 2022, section 4.3.1)."""
CACHE_BYTES = 2 << 30
"""About ten blocks of the largest preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRendering:
    """Contribution of one block to a rendering of the city."""

    name: str
    image: Rendering
    """Rendering of this block alone."""
    weight: Float[Tensor, "height width"]
    """Blend weight per pixel; the weights of all parts sum to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CityRendering:
    """A rendering of the city, its geometry, and the blocks it is composited from."""

    color: Float[Tensor, "height width 3"]
    """0..1, in the color space of the images."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray, in world units."""
    opacity: Float[Tensor, "height width"]
    parts: tuple[BlockRendering, ...]
    """The rendered blocks, in the order of `rendered`."""
    selection: tuple[BlockInView, ...]
    """Every considered block, the nearest block of the city first, then by distance."""

    def cpu(self) -> "CityRendering":
        """Return a copy in CPU memory."""
        parts = (replace(part, image=part.image.cpu(), weight=part.weight.cpu()) for part in self.parts)
        color, depth, opacity = (image.cpu() for image in (self.color, self.depth, self.opacity))
        return replace(self, color=color, depth=depth, opacity=opacity, parts=tuple(parts))

    @property
    def rendered(self) -> tuple[BlockInView, ...]:
        """The blocks in the rendering; their weights sum to one."""
        return tuple(block for block in self.selection if block.rendered)

    @property
    def considered(self) -> tuple[str, ...]:
        """Names of the blocks that affect the rendering: the rendered ones, and those scored but left out."""
        return tuple(block.name for block in self.selection if block.rendered or block.visibility is not None)


class CityRenderer:
    """Renders any camera in a city, with loaded blocks limited to a memory budget.

    The time per rendering depends on the blocks around the camera, not on the number of blocks in the city.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        city: City | None = None,
        cache_bytes: int = CACHE_BYTES,
        device: torch.device | str = "cpu",
        load: Loader | None = None,
        allow_missing: bool = False,
    ) -> None:
        """Open a run; blocks are loaded when cameras come near them.

        Args:
            run: The run folder.
            city: Its blocks and rendering settings; None reads them from the run.
            cache_bytes: Memory budget of the parameters of all loaded blocks.
            device: Device to render on.
            load: Returns a block; by default loaded from the run's files.
            allow_missing: Render from the trained blocks and report the missing ones, instead of raising.
        """
        self.run, self.device = run, torch.device(device)
        self.city = read_city(run.city) if city is None else city
        self.cache = BlockCache(load or block_loader(run, self.city, self.device), cache_bytes)
        self._allow_missing = allow_missing
        self._selector = BlockSelector(run, self.city, self.cache, allow_missing=allow_missing)
        self._appearances: dict[tuple[str | None, str | None], AppearanceQuery] = {}

    def with_city(self, city: City) -> "CityRenderer":
        """Return a renderer with the settings of `city` that shares this one's block cache.

        The blocks of `city` must be a subset of this city's.
        """
        other = copy(self)
        other.city = city
        other._selector = BlockSelector(self.run, city, self.cache, allow_missing=self._allow_missing)
        return other

    @torch.no_grad()
    def render(
        self,
        cameras: Cameras,
        index: int = 0,
        *,
        segment: str | None = None,
        frame: str | None = None,
        preset: AppearancePreset | None = None,
        codes: Mapping[str, Tensor] | None = None,
        exposure: float | None = None,
        weighting: Weighting | WeightingFunction | None = None,
        max_blocks: int = MAX_BLOCKS,
        pose_segment: PoseSegment | None = None,
        on_tile: Callable[[], None] = no_op,
        to_cpu: bool = True,
    ) -> CityRendering:
        """Render the city from one camera (Tancik et al. 2022, section 4.3).

        Args:
            cameras: A batch of cameras.
            index: Index of the camera in the batch.
            segment: Use the appearance of this segment; by default of the one that trains the most blocks.
            frame: Use the appearance of this image instead.
            preset: Use this appearance preset instead, with the exposures of its segment's images around the camera.
            codes: Appearance codes by block; blocks without one take theirs from segment, frame or preset.
            exposure: Exposure in the capture's unit; by default that of the image, or of the images around the camera.
            weighting: Overrides the city's weighting: a name, or a function from `BlendInputs` to weights.
            max_blocks: Maximum number of rendered blocks.
            pose_segment: The camera is an uncorrected camera of this pose segment; each block applies its own
                correction of the segment.
            on_tile: Called before each tile of rays; it may raise to cancel the rendering.
            to_cpu: Return the rendering in CPU memory; otherwise it stays on the device, e.g. if only a part is needed.

        Raises:
            RunError: a block around the camera is not trained or its file is broken, or the segment, frame or weighting
                does not exist.
        """
        view, rule = cameras[index].to(self.device), self._rule(weighting)
        selection = self._selector.select(view, rule, max_blocks)
        appearance = self.appearance(segment, frame) if preset is None else self.appearance(preset.segment, None)
        if exposure is None:
            exposure = appearance.exposure_at(view.centers[0])
        known_codes = {**(preset.codes if preset is not None else {}), **(codes or {})}
        names = [block.name for block in selection if block.rendered]
        rays = view.generate_rays(0)
        renderings = [
            self._render_block(name, view, rays, pose_segment, appearance, known_codes, exposure, on_tile)
            for name in names
        ]
        weights = self._weight_images(selection, view, rays, pose_segment, rule, renderings)
        weight_of = {name: float(weight.mean()) for name, weight in zip(names, weights, strict=True)}
        parts = zip(names, renderings, weights, strict=True)
        city_rendering = CityRendering(
            color=blend([rendering.color for rendering in renderings], weights),
            depth=blend([rendering.depth for rendering in renderings], weights),
            opacity=blend([rendering.opacity for rendering in renderings], weights),
            parts=tuple(BlockRendering(name=name, image=rendering, weight=weight) for name, rendering, weight in parts),
            selection=tuple(replace(block, weight=weight_of.get(block.name, 0.0)) for block in selection),
        )
        return city_rendering.cpu() if to_cpu else city_rendering

    @torch.no_grad()
    def select(
        self, view: Cameras, *, weighting: Weighting | WeightingFunction | None = None, max_blocks: int = MAX_BLOCKS
    ) -> tuple[BlockInView, ...]:
        """Return every block around a view with its blend weight, or the reason why it is left out.

        Weights of per-pixel rules are their means at low resolution.

        Raises:
            RunError: as `render` does.
        """
        return self._selector.select(view.to(self.device), self._rule(weighting), max_blocks)

    def _rule(self, weighting: str | WeightingFunction | None) -> WeightingRule:
        return weighting_rule(self.city.weighting if weighting is None else weighting)

    def _weight_images(
        self,
        selection: Sequence[BlockInView],
        view: Cameras,
        rays: RayBundle,
        pose_segment: PoseSegment | None,
        rule: WeightingRule,
        renderings: Sequence[Rendering],
    ) -> list[Float[Tensor, "height width"]]:
        """Return the weight of each rendered block in each pixel."""
        depth, blocks = renderings[0].depth, [block for block in selection if block.rendered]
        constant = [torch.full_like(depth, block.weight) for block in blocks]
        if len(renderings) == 1 or not rule.per_pixel:
            return constant
        visibility: list[Tensor] = []
        if rule.needs_visibility:
            loaded = [self.cache.get(block.name) for block in blocks]
            visibility = [predict_visibility(block.field, block.to_block_frame(view, pose_segment)) for block in loaded]
        inputs = blend_inputs(blocks, rays, visibility, [rendering.depth for rendering in renderings])
        weights = rule.weights(inputs, self.city.power)
        if weights.ndim == 1:
            return constant
        # The fallback is the nearest trained block; it is not rendered only if its weight is negligible.
        nearest = next(block for block in selection if block.trained)
        if nearest.rendered:
            confidence = fallback_confidence([block.selection_weight for block in selection])
            weights = blend_with_fallback(weights, confidence, 0)
        return list(
            limit_pixel_weights(weights, weights.new_tensor([block.weight_limit for block in blocks])).to(depth)
        )

    def _render_block(
        self,
        name: str,
        view: Cameras,
        rays: RayBundle,
        pose_segment: PoseSegment | None,
        appearance: AppearanceQuery,
        codes: Mapping[str, Tensor],
        exposure: float | None,
        on_tile: Callable[[], None],
    ) -> Rendering:
        block = self.cache.get(name)
        code = codes[name] if name in codes else code_for_block(block.field, appearance)
        block_view, block_exposure = block.to_block_frame(view, pose_segment), exposure_for_block(block.field, exposure)
        # Blocks without pose refinement use the same rays.
        block_rays = rays if block_view is view else block_view.generate_rays(0)
        return render_image(block.field, block_rays, code.to(self.device), block_exposure, on_tile=on_tile)

    def appearance(self, segment: str | None = None, frame: str | None = None) -> AppearanceQuery:
        """Return the appearance of a segment or an image; by default of the reference segment.

        Raises:
            RunError: the segment or image does not exist, or the run has no capture.
        """
        if (segment, frame) not in self._appearances:
            self._appearances[segment, frame] = self._find_appearance(segment, frame)
        return self._appearances[segment, frame]

    def _find_appearance(self, segment: str | None, frame: str | None) -> AppearanceQuery:
        requested = segment is not None or frame is not None
        if self.run.capture.is_file():
            trained = [] if requested else trained_frames(self.run, self.city.blocks, self._capture)
            return appearance_of(self._capture, trained, segment=segment, frame=frame)
        if not requested:
            return AppearanceQuery()
        raise RunError(f"{self.run.capture}: does not exist, so there is no segment or image to select; restore it")

    @cached_property
    def _capture(self) -> Capture:
        return read_capture(self.run.capture)
