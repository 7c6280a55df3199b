"""Pictures of the whole city: a few blocks around the camera, each rendered alone, blended."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.capture.capture import Capture, read_capture
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.city.appearance import AppearanceQuery, appearance_of, code_for_block, exposure_for_block
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.block_scoring import BlockSelector, ScoredBlock, blend_inputs, low_res_blend_inputs
from blocknerf.city.cache import BlockCache, Loader, block_loader
from blocknerf.city.compositing import blend, blend_with_fallback, fallback_confidence, keep_top_k, limit_pixel_weights
from blocknerf.city.manifest import WEIGHTINGS, City, Weighting, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import BlockSelection
from blocknerf.city.training_images import trained_frames
from blocknerf.city.weighting import PIXEL_WEIGHTINGS, blend_weights
from blocknerf.errors import RunError, one_of
from blocknerf.rendering.image import Rendering, no_op, predict_visibility, render_image

MAX_BLOCKS = 3
CACHE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRendering:
    """What one block gives to a picture of the city."""

    name: str
    image: Rendering
    """The block's alone."""
    weight: Float[Tensor, "height width"]
    """Its share of each pixel; the parts of a picture sum to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CityRendering:
    """A picture of the city, its geometry, and which blocks it is from."""

    color: Float[Tensor, "height width 3"]
    """0..1, as a photograph would show it."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units."""
    opacity: Float[Tensor, "height width"]
    parts: tuple[BlockRendering, ...]
    """The blocks that were rendered, in the order of `rendered`."""
    selection: tuple[BlockSelection, ...]
    """Every block that was considered, the city's nearest first, then by distance."""

    def cpu(self) -> "CityRendering":
        """The same in the processor's memory."""
        parts = (replace(part, image=part.image.cpu(), weight=part.weight.cpu()) for part in self.parts)
        color, depth, opacity = (image.cpu() for image in (self.color, self.depth, self.opacity))
        return replace(self, color=color, depth=depth, opacity=opacity, parts=tuple(parts))

    @property
    def rendered(self) -> tuple[BlockSelection, ...]:
        """The blocks that are in the picture; their weights sum to one."""
        return tuple(use for use in self.selection if use.rendered)

    @property
    def considered(self) -> tuple[str, ...]:
        """Names of the blocks on whose fields the picture depends: those in it, and those that visibility left out."""
        return tuple(use.name for use in self.selection if use.rendered or use.visibility is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """Which of the trained blocks around a camera are in its picture, and how far."""

    sightings: tuple[ScoredBlock, ...]
    weights: tuple[float, ...]
    """Shares of the picture; only those that a rule for pixels gives are rough."""
    admission: tuple[float, ...]
    """Share of the picture that each is let have, of what the rule gives it."""
    confidence: float
    """In the rule; the first block stands in for the rest."""

    def rendered(self) -> "_Selection":
        """Without the blocks that are not in the picture."""
        rows = [i for i, weight in enumerate(self.weights) if weight > 0.0]
        return _Selection(
            sightings=tuple(self.sightings[i] for i in rows),
            weights=tuple(self.weights[i] for i in rows),
            admission=tuple(self.admission[i] for i in rows),
            # The first block is only missing where it has next to nothing to stand in for.
            confidence=self.confidence if rows[0] == 0 else 1.0,
        )


class CityRenderer:
    """Renders any camera in a city, holding no more blocks in memory than a budget allows.

    Work a picture is for the blocks around the camera, however many the city has.
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
        """Open a run; blocks are loaded as cameras come near them.

        Args:
            run: The run folder.
            city: Read from the run where not given.
            cache_bytes: Memory that the parameters of loaded blocks may take together.
            device: Where to render.
            load: Gives a block's field; by default from the run's files.
            allow_missing: Render from the blocks that are trained, and say which were missed, instead of refusing.
        """
        self.run, self.device = run, torch.device(device)
        self.city = read_city(run.city) if city is None else city
        self.cache = BlockCache(load or block_loader(run, self.city, self.device), cache_bytes)
        self._allow_missing = allow_missing
        self._lookout = BlockSelector(run, self.city, self.cache, allow_missing=allow_missing)
        self._appearances: dict[tuple[str | None, str | None], AppearanceQuery] = {}

    def with_city(self, city: City) -> "CityRenderer":
        """One that holds the same blocks in the same memory, and chooses and weighs them as `city` says.

        Its blocks are some of this city's.
        """
        other = copy(self)
        other.city = city
        other._lookout = BlockSelector(self.run, city, self.cache, allow_missing=self._allow_missing)
        return other

    @torch.no_grad()
    def render(
        self,
        cameras: Cameras,
        index: int = 0,
        *,
        segment: str | None = None,
        frame: str | None = None,
        look: AppearancePreset | None = None,
        codes: Mapping[str, Tensor] | None = None,
        exposure: float | None = None,
        weighting: Weighting | None = None,
        max_blocks: int = MAX_BLOCKS,
        stretch: PoseSegment | None = None,
        pause: Callable[[], None] = no_op,
        on_cpu: bool = True,
    ) -> CityRendering:
        """What one camera sees of the city (Tancik et al. 2022, section 4.3).

        Args:
            cameras: A batch of cameras.
            index: Which of them.
            segment: Look like this segment of the capture; by default like the one that trains the most blocks.
            frame: Look like this photograph instead.
            look: Show this look instead, with the exposures of the photographs around that it is of.
            codes: Appearance codes of blocks, by name; blocks without one take theirs from segment, frame or look.
            exposure: Show this exposure, in the capture's unit, instead of the photograph's or that of photographs
                around the camera.
            weighting: Replaces the city's.
            max_blocks: How many blocks may be rendered at most.
            stretch: The camera is that of a photograph of this stretch, as it was given: each block takes it from
                where it learned that the stretch stands.
            pause: Called between tiles; it may raise to give the picture up.
            on_cpu: Give the picture in the processor's memory; else it stays where it was rendered, for those who
                want only a part of it.

        Raises:
            RunError: a block around the camera is not trained or its file is broken, or there is no such look or
                weighting.
        """
        view, rule = cameras[index].to(self.device), self._rule(weighting)
        sightings = self._lookout.score(view, rule)
        choice = self._select(sightings, view, rule, max_blocks).rendered()
        appearance = self.appearance(segment, frame) if look is None else self.appearance(look.segment, None)
        if exposure is None:
            exposure = appearance.exposure_at(view.centers[0])
        given = {**(look.codes if look is not None else {}), **(codes or {})}
        names = [seen.name for seen in choice.sightings]
        rays = view.generate_rays(0)
        pictures = [self._render_block(name, view, rays, stretch, appearance, given, exposure, pause) for name in names]
        weights = self._weight_images(choice, view, rays, stretch, rule, pictures)
        shares = {name: float(weight.mean()) for name, weight in zip(names, weights, strict=True)}
        parts = zip(names, pictures, weights, strict=True)
        picture = CityRendering(
            color=blend([picture.color for picture in pictures], weights),
            depth=blend([picture.depth for picture in pictures], weights),
            opacity=blend([picture.opacity for picture in pictures], weights),
            parts=tuple(BlockRendering(name=name, image=picture, weight=weight) for name, picture, weight in parts),
            selection=tuple(seen.use(shares.get(seen.name, 0.0)) for seen in sightings),
        )
        return picture.cpu() if on_cpu else picture

    @torch.no_grad()
    def select(
        self, view: Cameras, *, weighting: Weighting | None = None, max_blocks: int = MAX_BLOCKS
    ) -> tuple[BlockSelection, ...]:
        """Which blocks a view takes, with what weight, and why each of the others is left out.

        The weights that a rule for pixels gives are their means at low resolution.

        Raises:
            RunError: as `render` does.
        """
        view, rule = view.to(self.device), self._rule(weighting)
        sightings = self._lookout.score(view, rule)
        choice = self._select(sightings, view, rule, max_blocks)
        shares = {seen.name: weight for seen, weight in zip(choice.sightings, choice.weights, strict=True)}
        return tuple(seen.use(shares.get(seen.name, 0.0)) for seen in sightings)

    def _rule(self, weighting: str | None) -> Weighting:
        return self.city.weighting if weighting is None else one_of(weighting, WEIGHTINGS, "render: weighting")

    def _select(self, sightings: Sequence[ScoredBlock], view: Cameras, rule: Weighting, max_blocks: int) -> _Selection:
        """The weights of the blocks in a picture, as far as low resolution tells."""
        trained = [seen for seen in sightings if seen.trained]
        sights = low_res_blend_inputs(trained, view)
        trust = fallback_confidence(sights.selection_weights)
        shares = (
            blend_weights(rule, sights, self.city.power) if trust > 0.0 else torch.zeros_like(sights.selection_weights)
        )
        means = (
            blend_with_fallback(shares, trust, 0).flatten(1).mean(1)
            if shares.ndim > 1
            else blend_with_fallback(shares, trust, 0)
        )
        weights = keep_top_k(means, max_blocks)
        return _Selection(
            sightings=tuple(trained),
            weights=tuple(weights.tolist()),
            admission=tuple((weights / means.clamp_min(1e-30)).tolist()),
            confidence=trust,
        )

    def _weight_images(
        self,
        choice: _Selection,
        view: Cameras,
        rays: RayBundle,
        stretch: PoseSegment | None,
        rule: Weighting,
        pictures: Sequence[Rendering],
    ) -> list[Float[Tensor, "height width"]]:
        """The share of each block in each pixel."""
        shape = pictures[0].depth
        if len(pictures) == 1 or rule not in PIXEL_WEIGHTINGS:
            return [torch.full_like(shape, weight) for weight in choice.weights]
        seen: list[Tensor] = []
        if rule == "visibility_pixel":
            blocks = [self.cache.get(each.name) for each in choice.sightings]
            seen = [predict_visibility(block.field, block.to_block_frame(view, stretch)) for block in blocks]
        sights = blend_inputs(choice.sightings, rays, seen, [picture.depth for picture in pictures])
        shares = blend_with_fallback(blend_weights(rule, sights, self.city.power), choice.confidence, 0)
        return list(limit_pixel_weights(shares, shares.new_tensor(choice.admission)).to(shape))

    def _render_block(
        self,
        name: str,
        view: Cameras,
        rays: RayBundle,
        stretch: PoseSegment | None,
        appearance: AppearanceQuery,
        codes: Mapping[str, Tensor],
        exposure: float | None,
        pause: Callable[[], None],
    ) -> Rendering:
        block = self.cache.get(name)
        code = codes[name] if name in codes else code_for_block(block.field, appearance)
        seen, shown = block.to_block_frame(view, stretch), exposure_for_block(block.field, exposure)
        # Blocks that kept the poses they were given see the view along the same rays.
        own = rays if seen is view else seen.generate_rays(0)
        return render_image(block.field, own, code.to(self.device), shown, pause=pause)

    def appearance(self, segment: str | None = None, frame: str | None = None) -> AppearanceQuery:
        """What a city without a look is shown like: this segment, this photograph, or the reference segment.

        Raises:
            RunError: there is no such segment or photograph, or the run has no capture.
        """
        if (segment, frame) not in self._appearances:
            self._appearances[segment, frame] = self._find_appearance(segment, frame)
        return self._appearances[segment, frame]

    def _find_appearance(self, segment: str | None, frame: str | None) -> AppearanceQuery:
        asked = segment is not None or frame is not None
        if self.run.capture.is_file():
            trained = [] if asked else trained_frames(self.run, self.city.blocks, self._capture)
            return appearance_of(self._capture, trained, segment=segment, frame=frame)
        if not asked:
            return AppearanceQuery()
        raise RunError(f"{self.run.capture}: is not there, so no segment or photograph can be looked like; add it")

    @cached_property
    def _capture(self) -> Capture:
        return read_capture(self.run.capture)
