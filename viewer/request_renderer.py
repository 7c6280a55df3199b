"""Render requests of clients, and the renderer that serves them."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8

from blocknerf.cameras import Cameras
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.manifest import City, Weighting
from blocknerf.city.renderer import MAX_BLOCKS, CityRenderer, CityRendering
from blocknerf.city.selection import BlockInView
from blocknerf.city.weighting import blend
from blocknerf.colormaps import apply_turbo, colorize_blocks, depth_colors
from blocknerf.errors import one_of
from blocknerf.images import to_uint8
from blocknerf.rendering.image import no_op, predict_visibility
from viewer.run_contents import RunContents
from viewer.scheduler import SCALES

Layer = Literal["color", "depth", "opacity", "blocks", "visibility"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
MAX_CACHED_RENDERERS = 16
"""Renderers kept, one for each block selection and weighting in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """Camera and display settings of one client."""

    view: Cameras
    """One camera, at full size."""
    appearance: AppearanceTrack
    blend: float = 0.0
    """Position in the appearance track, 0..1."""
    city: City
    """The run's city with the client's selection settings, without hidden blocks."""
    weighting: Weighting
    max_blocks: int = MAX_BLOCKS
    layer: Layer = "color"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedImage:
    """A rendering for a page."""

    image: UInt8[np.ndarray, "height width 3"]
    depth: Float[np.ndarray, "height width"]
    """Distance along the optical axis, in world units; the page occludes overlays with it."""
    selection: tuple[BlockInView, ...]
    """All considered blocks."""
    camera: Cameras
    """The rendered camera."""


class RequestRenderer:
    """Renders one city for all clients, who share the loaded blocks."""

    def __init__(self, renderer: CityRenderer) -> None:
        self.renderer = renderer
        self._outdated: set[str] = set()
        self._renderers: OrderedDict[City, CityRenderer] = OrderedDict()
        self._indices = {block.name: i for i, block in enumerate(renderer.city.blocks)}

    def invalidate(self, names: Iterable[str]) -> None:
        """Reload these blocks for the next rendering. Thread-safe, unlike the other methods."""
        self._outdated.update(names)

    def warm_up(self, contents: RunContents) -> None:
        """Load the blocks around the initial camera and compile the kernels, so that no client waits for that."""
        appearance = contents.appearance(contents.appearance_options[0], None, None)
        request = RenderRequest(
            view=contents.image(contents.path[0]),
            appearance=appearance,
            city=contents.city,
            weighting=contents.city.weighting,
            layer="visibility",  # needed as soon as a second block is near
        )
        self.render(request, SCALES[0], no_op)

    def render(self, request: RenderRequest, scale: float, on_tile: Callable[[], None]) -> RenderedImage:
        """Render a request at a fraction of its width and height. `on_tile` is called before each tile and may raise.

        Raises:
            RunError: A block's file is broken, or the layer is unknown.
        """
        one_of(request.layer, LAYERS, "view: layer")
        while self._outdated:
            self.renderer.cache.drop(self._outdated.pop())
        renderer, view = self._renderer(request.city), request.view.scaled(scale)
        appearance = request.appearance.render_options_at(request.blend, renderer, view)
        rendering = renderer.render(
            view, weighting=request.weighting, max_blocks=request.max_blocks, on_tile=on_tile, **appearance
        )
        cosine = view.generate_rays(0).directions @ view.camera_to_world[0, :, 2]
        return RenderedImage(
            image=self._colors(rendering, request.layer, view),
            depth=(rendering.depth * cosine).cpu().numpy(),
            selection=rendering.selection,
            camera=view,
        )

    def _renderer(self, city: City) -> CityRenderer:
        if city not in self._renderers:
            self._renderers[city] = self.renderer.with_city(city)
            if len(self._renderers) > MAX_CACHED_RENDERERS:
                self._renderers.popitem(last=False)
        self._renderers.move_to_end(city)
        return self._renderers[city]

    def _colors(self, rendering: CityRendering, layer: Layer, view: Cameras) -> UInt8[np.ndarray, "height width 3"]:
        if layer == "depth":
            return depth_colors(rendering.depth.cpu().numpy(), *_depth_range(rendering))
        if layer == "opacity":
            return to_uint8(rendering.opacity[..., None].expand(*rendering.opacity.shape, 3))
        if layer == "blocks":
            weights = [(self._indices[block.name], block.weight) for block in rendering.rendered]
            return colorize_blocks(to_uint8(rendering.color), weights)
        if layer == "visibility":
            blocks = [self.renderer.cache.get(part.name) for part in rendering.parts]
            camera = view.to(self.renderer.device)
            visibility = [predict_visibility(block.field, block.to_block_frame(camera)).cpu() for block in blocks]
            return apply_turbo(blend(visibility, [part.weight for part in rendering.parts]).cpu().numpy())
        return to_uint8(rendering.color)


def _depth_range(rendering: CityRendering) -> tuple[float, float]:
    """Range of the depth colormap: 2nd to 98th percentile of the opaque pixels."""
    solid = rendering.depth[rendering.opacity > 0.5].float()
    if not solid.numel():
        return 1.0, 2.0
    near, far = torch.quantile(solid[: 1 << 20], torch.tensor([0.02, 0.98])).tolist()
    return near, far
