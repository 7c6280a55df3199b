"""What a visitor wants to see, and the pictures that are made of it."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8

from blocknerf.cameras import Cameras
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.compositing import blend
from blocknerf.city.manifest import City, Weighting
from blocknerf.city.renderer import MAX_BLOCKS, CityRenderer, CityRendering
from blocknerf.city.selection import BlockSelection
from blocknerf.colormaps import apply_turbo, colorize_blocks, depth_colors
from blocknerf.errors import one_of
from blocknerf.images import to_uint8
from blocknerf.rendering.image import no_op, predict_visibility
from viewer.run_contents import RunContents
from viewer.scheduler import SCALES

Layer = Literal["color", "depth", "opacity", "blocks", "visibility"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
MAX_CACHED_RENDERERS = 16
"""How many ways to choose and weigh the blocks are kept ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """All that decides a picture."""

    view: Cameras
    """One camera, at full size."""
    appearance: AppearanceTrack
    blend: float = 0.0
    """How far the light has passed through its looks, 0..1."""
    city: City
    """The run's, with how its blocks are chosen and weighed, and without those that are not to show."""
    weighting: Weighting
    max_blocks: int = MAX_BLOCKS
    layer: Layer = "color"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedImage:
    """One picture for a page."""

    image: UInt8[np.ndarray, "height width 3"]
    depth: Float[np.ndarray, "height width"]
    """Along the optical axis, in world units, as the page hides things behind it."""
    selection: tuple[BlockSelection, ...]
    """Every block that was considered."""
    camera: Cameras
    """The one that was rendered."""


class RequestRenderer:
    """Makes pictures of one city for all visitors, from blocks that are held once."""

    def __init__(self, renderer: CityRenderer) -> None:
        self.renderer = renderer
        self._outdated: set[str] = set()
        self._renderers: OrderedDict[City, CityRenderer] = OrderedDict()
        self._positions = {block.name: i for i, block in enumerate(renderer.city.blocks)}

    def invalidate(self, names: Iterable[str]) -> None:
        """Load these blocks anew for the next picture. From any thread; the others are the painter's alone."""
        self._outdated.update(names)

    def warm_up(self, stock: RunContents) -> None:
        """Load the blocks around the start and compile what is not compiled, so that no visitor waits for that."""
        view = stock.image(stock.path[0])
        light = stock.appearance(stock.presets[0], None, None)
        # Visibility too, which is looked at as soon as a second block comes near.
        wish = RenderRequest(
            view=view, appearance=light, city=stock.city, weighting=stock.city.weighting, layer="visibility"
        )
        self.render(wish, SCALES[0], no_op)

    def render(self, wish: RenderRequest, level: float, pause: Callable[[], None]) -> RenderedImage:
        """The picture of a wish at a share of its size; `pause` is called between tiles, and may raise.

        Raises:
            RunError: a block's file is broken, or there is no such layer.
        """
        one_of(wish.layer, LAYERS, "view: layer")
        while self._outdated:
            self.renderer.cache.drop(self._outdated.pop())
        renderer, view = self._renderer(wish.city), wish.view.scaled(level)
        shown = wish.appearance.render_options_at(wish.blend, renderer, view)
        seen = renderer.render(view, weighting=wish.weighting, max_blocks=wish.max_blocks, pause=pause, **shown)
        rays = view.generate_rays(0)
        axis = rays.directions @ view.camera_to_world[0, :, 2]
        return RenderedImage(
            image=self._colors(seen, wish.layer, view),
            depth=(seen.depth * axis).cpu().numpy(),
            selection=seen.selection,
            camera=view,
        )

    def _renderer(self, city: City) -> CityRenderer:
        if city not in self._renderers:
            self._renderers[city] = self.renderer.with_city(city)
            if len(self._renderers) > MAX_CACHED_RENDERERS:
                self._renderers.popitem(last=False)
        self._renderers.move_to_end(city)
        return self._renderers[city]

    def _colors(self, seen: CityRendering, layer: Layer, view: Cameras) -> UInt8[np.ndarray, "height width 3"]:
        if layer == "depth":
            return depth_colors(seen.depth.cpu().numpy(), *_range(seen))
        if layer == "opacity":
            return to_uint8(seen.opacity[..., None].expand(*seen.opacity.shape, 3))
        if layer == "blocks":
            shares = [(self._positions[use.name], use.weight) for use in seen.rendered]
            return colorize_blocks(to_uint8(seen.color), shares)
        if layer == "visibility":
            blocks = [self.renderer.cache.get(part.name) for part in seen.parts]
            there = view.to(self.renderer.device)
            seen_by = [predict_visibility(block.field, block.to_block_frame(there)).cpu() for block in blocks]
            return apply_turbo(blend(seen_by, [part.weight for part in seen.parts]).cpu().numpy())
        return to_uint8(seen.color)


def _range(seen: CityRendering) -> tuple[float, float]:
    """The distances that depth colors span: nearly all of what the picture shows."""
    solid = seen.depth[seen.opacity > 0.5].float()
    if not solid.numel():
        return 1.0, 2.0
    near, far = torch.quantile(solid[: 1 << 20], torch.tensor([0.02, 0.98])).tolist()
    return near, far
