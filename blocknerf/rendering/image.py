"""Rendering of whole images in tiles of rays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.cuda_graphs import GraphedFunction
from blocknerf.kernels.volume_rendering import weights_from_density
from blocknerf.rendering.protocol import Field, SupportsMarching
from blocknerf.rendering.rays import expected_depth, ray_spacing, render_rays
from blocknerf.sampling import sample_proposals

CHUNK = {"cpu": 4096, "cuda": 1 << 15}
"""Rays per tile: enough to fill the device, few enough for the CPU caches or the GPU memory."""
MARCH_CHUNK = {"cpu": 1 << 14, "cuda": 1 << 20}
"""Rays per tile of a field with `march`: it keeps almost nothing in memory, and a GPU renders a full screen faster than
Python could launch the next tile."""
GRAPH_MAX_RAYS = 1 << 12
"""Proposal renderings of up to this many rays are replayed from CUDA graphs."""
PATCH = (16, 8)
"""Height and width of pixel patches: `march` gets the rays patch by patch, since nearby rays read the same cells."""


def no_op() -> None:
    """Do nothing: the default callback between tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A rendered image with depth and opacity."""

    color: Float[Tensor, "height width 3"]
    """Display values 0..1."""
    depth: Float[Tensor, "height width"]
    """Distance along the ray of each pixel in world units; the far end of the field where only sky is visible."""
    opacity: Float[Tensor, "height width"]

    def cpu(self) -> "Rendering":
        """Return a copy in CPU memory."""
        return Rendering(color=self.color.cpu(), depth=self.depth.cpu(), opacity=self.opacity.cpu())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRendering:
    """A coarse rendering from the proposal networks alone."""

    visibility: Float[Tensor, "height width"]
    """0..1: how visible the surface at each pixel was from the block's training cameras."""
    depth: Float[Tensor, "height width"]
    """Distance along the ray of each pixel in world units."""
    opacity: Float[Tensor, "height width"]


@torch.no_grad()
def render_image(
    field: Field,
    rays: RayBundle,
    code: Float[Tensor, "codes"],
    exposure: float,
    *,
    use_march: bool = True,
    on_tile: Callable[[], None] = no_op,
) -> Rendering:
    """Render a field along the rays of an image, with one appearance code and one exposure.

    Rays (`Cameras.generate_rays`) and code are on the field's device, and so is the result. A field with `march` uses
    it, unless `use_march` is off; the visible result is the same. `on_tile` is called before each tile and may raise to
    cancel the rendering.
    """
    height, width = rays.pixel_radii.shape
    if isinstance(field, SupportsMarching) and use_march:
        color, depth, opacity = _march(field, rays, code, exposure, on_tile)
    else:
        color, depth, opacity = _render_generic(field, rays.flatten(), code, exposure, on_tile)
    return Rendering(
        color=color.view(height, width, 3), depth=depth.view(height, width), opacity=opacity.view(height, width)
    )


def _render_generic(
    field: Field, rays: RayBundle, code: Tensor, exposure: float, on_tile: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    tiles = []
    for tile in _tiles(rays, CHUNK):
        on_tile()
        outputs = render_rays(field, rays[tile], *_expand_conditioning(tile, code, exposure))
        tiles.append((outputs.color.clamp(0.0, 1.0), outputs.depth, outputs.opacity))
    color, depth, opacity = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    return color, depth, opacity


def _march(
    field: SupportsMarching, rays: RayBundle, code: Tensor, exposure: float, on_tile: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = rays.pixel_radii.shape
    order, flat = _patch_order(height, width, code.device), rays.flatten()
    results = code.new_empty(len(flat), 3), code.new_empty(len(flat)), code.new_empty(len(flat))
    for tile in _tiles(flat, MARCH_CHUNK):
        on_tile()
        outputs = field.march(flat[order[tile]], *_expand_conditioning(tile, code, exposure))
        for result, values in zip(results, outputs, strict=True):
            result[order[tile]] = values
    return results


def _expand_conditioning(tile: slice, code: Tensor, exposure: float) -> tuple[Tensor, Tensor]:
    """Return code and exposure for each ray of a tile."""
    count = tile.stop - tile.start
    return code.expand(count, -1), torch.full((count,), exposure, device=code.device)


def _patch_order(height: int, width: int, device: torch.device) -> Int[Tensor, "pixels"]:
    """Return the flat indices of all pixels, patch by patch."""
    patch_height, patch_width = PATCH
    rows, columns = -(-height // patch_height), -(-width // patch_width)
    y, x = (torch.arange(count, device=device) for count in (rows * patch_height, columns * patch_width))
    y, x = y.view(rows, 1, patch_height, 1), x.view(columns, 1, patch_width)
    return (y * width + x)[(y < height) & (x < width)]


@torch.no_grad()
def render_proposals(field: Field, cameras: Cameras, index: int = 0) -> ProposalRendering:
    """Render visibility, depth and opacity from the proposal networks alone, without evaluating the main field.

    Cameras are on the field's device. Use low-resolution cameras if only the mean over the image matters.
    """
    rays = cameras.generate_rays(index)
    flat = rays.flatten()
    if flat.pixel_radii.is_cuda and isinstance(field, nn.Module) and len(flat) <= GRAPH_MAX_RAYS:
        tiles = [_graphed_proposals(field, flat)]
    else:
        tiles = [_proposal_tile(field, flat[tile]) for tile in _tiles(flat, CHUNK)]
    visibility, depth, opacity = (torch.cat(parts).view(rays.pixel_radii.shape) for parts in zip(*tiles, strict=True))
    return ProposalRendering(visibility=visibility, depth=depth, opacity=opacity)


def predict_visibility(field: Field, cameras: Cameras, index: int = 0) -> Float[Tensor, "height width"]:
    """Return how visible the surface at each pixel was from the training cameras (Tancik et al. 2022, section 4.3.1).

    The predicted transmittance of the samples along each ray, weighted by the proposals. Sky counts as not visible,
    since it holds no information about the block. Culling uses the mean over a low-resolution image.
    """
    return render_proposals(field, cameras, index).visibility


def _proposal_tile(field: Field, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
    samples, _ = sample_proposals(field.proposal_density_fns, rays, ray_spacing(field), field.num_samples)
    density = field.proposal_density_fns[-1](samples.points, samples.radii)
    weights, _ = weights_from_density(density, samples.t_edges)
    visibility = (weights * field.visibility(samples.points, rays.directions)).sum(-1)
    opacity = weights.sum(-1)
    return visibility, expected_depth(weights, samples.t_mids, opacity, field.far), opacity


_graphed_proposals = GraphedFunction(_proposal_tile)


def _tiles(rays: RayBundle, sizes: Mapping[str, int]) -> list[slice]:
    count, size = len(rays), sizes.get(rays.pixel_radii.device.type, sizes["cpu"])
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
