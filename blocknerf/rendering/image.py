"""Whole pictures, a tile of rays after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.kernels.volume_rendering import weights_from_density
from blocknerf.rendering.cuda_graphs import GraphedFunction
from blocknerf.rendering.protocol import Field, SupportsMarching
from blocknerf.rendering.rays import expected_depth, ray_spacing, render_rays
from blocknerf.sampling.proposal import sample_proposals

CHUNK = {"cpu": 4096, "cuda": 1 << 15}
"""Rays rendered at once: enough to fill the device, few enough to stay in a processor's caches or a GPU's memory."""
MARCH_CHUNK = {"cpu": 1 << 14, "cuda": 1 << 20}
"""Rays given at once to a field that marches: it leaves next to nothing in memory between them, and a GPU takes a whole
screen before Python could ask for the next part."""
GRAPH_MAX_RAYS = 1 << 12
"""Glances at up to so many rays are replayed from graphs on a GPU."""
PATCH = (16, 8)
"""Height and width of the patches whose rays a marching field is given one after the other: they see the same cells."""


def no_op() -> None:
    """What is done between tiles where nobody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A picture, with its geometry."""

    color: Float[Tensor, "height width 3"]
    """0..1, as a photograph would show it."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units; the field's far end where there is only sky."""
    opacity: Float[Tensor, "height width"]

    def cpu(self) -> "Rendering":
        """The same in the processor's memory."""
        return Rendering(color=self.color.cpu(), depth=self.depth.cpu(), opacity=self.opacity.cpu())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRendering:
    """A rough idea of a picture."""

    visibility: Float[Tensor, "height width"]
    """0..1: how well the block's training cameras saw what each pixel shows."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units."""
    opacity: Float[Tensor, "height width"]


@torch.no_grad()
def render_image(
    field: Field,
    rays: RayBundle,
    code: Float[Tensor, "codes"],
    exposure: float,
    *,
    plain: bool = False,
    pause: Callable[[], None] = no_op,
) -> Rendering:
    """What a camera sees of a field along the rays of its picture, with one appearance code and one exposure.

    Rays (`Cameras.generate_rays`) and code lie where the field does, and so does the picture. A field that can march
    rays by itself does, unless `plain` asks for the way that suits every field; the pictures differ by less than can be
    seen. `pause` is called before each tile, and may raise to give the picture up.
    """
    height, width = rays.pixel_radii.shape
    if isinstance(field, SupportsMarching) and not plain:
        color, depth, opacity = _march(field, rays, code, exposure, pause)
    else:
        color, depth, opacity = _render_generic(field, rays.flatten(), code, exposure, pause)
    return Rendering(
        color=color.view(height, width, 3), depth=depth.view(height, width), opacity=opacity.view(height, width)
    )


def _render_generic(
    field: Field, rays: RayBundle, code: Tensor, exposure: float, pause: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    tiles = []
    for part in _tiles(rays, CHUNK):
        pause()
        seen = render_rays(field, rays[part], *_expand_conditioning(part, code, exposure))
        tiles.append((seen.color.clamp(0.0, 1.0), seen.depth, seen.opacity))
    color, depth, opacity = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    return color, depth, opacity


def _march(
    field: SupportsMarching, rays: RayBundle, code: Tensor, exposure: float, pause: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = rays.pixel_radii.shape
    order, flat = _patches(height, width, code.device), rays.flatten()
    results = code.new_empty(len(flat), 3), code.new_empty(len(flat)), code.new_empty(len(flat))
    for part in _tiles(flat, MARCH_CHUNK):
        pause()
        seen = field.march(flat[order[part]], *_expand_conditioning(part, code, exposure))
        for result, values in zip(results, seen, strict=True):
            result[order[part]] = values
    return results


def _expand_conditioning(part: slice, code: Tensor, exposure: float) -> tuple[Tensor, Tensor]:
    """The code and the exposure of each ray of a part."""
    count = part.stop - part.start
    return code.expand(count, -1), torch.full((count,), exposure, device=code.device)


def _patches(height: int, width: int, device: torch.device) -> Int[Tensor, "pixels"]:
    """The numbers of a picture's pixels, patch after patch."""
    high, wide = PATCH
    rows, columns = -(-height // high), -(-width // wide)
    y, x = (torch.arange(count, device=device) for count in (rows * high, columns * wide))
    y, x = y.view(rows, 1, high, 1), x.view(columns, 1, wide)
    return (y * width + x)[(y < height) & (x < width)]


@torch.no_grad()
def render_proposals(field: Field, cameras: Cameras, index: int = 0) -> ProposalRendering:
    """What the proposals alone tell of a picture; the costly field is never evaluated.

    Cameras lie where the field does. Call it with those of low resolution, where the mean over the picture is what
    matters.
    """
    rays = cameras.generate_rays(index)
    flat = rays.flatten()
    if flat.pixel_radii.is_cuda and isinstance(field, nn.Module) and len(flat) <= GRAPH_MAX_RAYS:
        parts = [_graphed_proposals(field, flat)]
    else:
        parts = [_proposal_tile(field, flat[part]) for part in _tiles(flat, CHUNK)]
    visibility, depth, opacity = (torch.cat(each).view(rays.pixel_radii.shape) for each in zip(*parts, strict=True))
    return ProposalRendering(visibility=visibility, depth=depth, opacity=opacity)


def predict_visibility(field: Field, cameras: Cameras, index: int = 0) -> Float[Tensor, "height width"]:
    """How well the block's training cameras saw what each pixel shows (Tancik et al. 2022, section 4.3.1).

    Predicted transmittance of the samples along each ray, weighted by what the proposals find there. Sky counts as
    not seen: it says nothing about the block. The mean over a low-resolution picture decides on culling.
    """
    return render_proposals(field, cameras, index).visibility


def _proposal_tile(field: Field, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
    samples, _ = sample_proposals(field.proposal_density_fns, rays, ray_spacing(field), field.num_samples)
    last = field.proposal_density_fns[-1]
    weights, _ = weights_from_density(last(samples.points, samples.radii), samples.t_edges)
    seen = (weights * field.visibility(samples.points, rays.directions)).sum(-1)
    return seen, expected_depth(weights, samples.t_mids, field.far), weights.sum(-1)


_graphed_proposals = GraphedFunction(_proposal_tile)


def _tiles(rays: RayBundle, sizes: Mapping[str, int]) -> list[slice]:
    count, size = len(rays), sizes.get(rays.pixel_radii.device.type, sizes["cpu"])
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
