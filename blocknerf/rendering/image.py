"""Whole pictures: tiles of rays, with an optional grid of what is empty."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.kernels.quadrature import weights_from_density
from blocknerf.rendering.protocol import Field, Occupancy
from blocknerf.rendering.rays import expected_depth, render_rays, spacing_of
from blocknerf.rendering.sparse import render_rays_sparse
from blocknerf.sampling.proposal import sample_proposals

TILE_RAYS = 4096
"""Rays rendered at once: large enough to fill the processor, small enough to stay in its caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A picture, with its geometry."""

    color: Float[Tensor, "height width 3"]
    """0..1, as a photograph would show it."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units; the field's far end where there is only sky."""
    opacity: Float[Tensor, "height width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A rough idea of a picture."""

    visibility: Float[Tensor, "height width"]
    """0..1: how well the block's training cameras saw what each pixel shows."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units."""
    opacity: Float[Tensor, "height width"]


@torch.no_grad()
def render_image(
    field: Field,
    cameras: Cameras,
    index: int,
    code: Float[Tensor, "codes"],
    exposure: float,
    occupancy: Occupancy | None = None,
) -> Rendering:
    """What one camera sees of a field, with one appearance code and one exposure.

    With an occupancy grid, empty space is skipped and spent rays stop; the picture is the same.
    """
    rays = cameras.image_rays(index)
    height, width = rays.radii.shape
    flat = rays.flatten()
    tiles = [_render_tile(field, flat[part], code, exposure, occupancy) for part in _tiles(len(flat))]
    color, depth, opacity = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    return Rendering(
        color=color.view(height, width, 3), depth=depth.view(height, width), opacity=opacity.view(height, width)
    )


def _render_tile(
    field: Field, rays: RayBundle, code: Tensor, exposure: float, occupancy: Occupancy | None
) -> tuple[Tensor, Tensor, Tensor]:
    count = len(rays)
    codes, exposures = code.expand(count, -1), torch.full((count,), exposure, device=code.device)
    if occupancy is not None:
        return render_rays_sparse(field, occupancy, rays, codes, exposures)
    seen = render_rays(field, rays, codes, exposures)
    return seen.color.clamp(0.0, 1.0), seen.depth, seen.opacity


@torch.no_grad()
def glance(field: Field, cameras: Cameras, index: int = 0) -> Glance:
    """What the proposals alone tell of a picture; the costly field is never evaluated.

    Call it with low-resolution cameras, where the mean over the picture is what matters.
    """
    rays = cameras.image_rays(index)
    flat = rays.flatten()
    parts = [_glance_along(field, flat[part]) for part in _tiles(len(flat))]
    visibility, depth, opacity = (torch.cat(each).view(rays.radii.shape) for each in zip(*parts, strict=True))
    return Glance(visibility=visibility, depth=depth, opacity=opacity)


def predict_visibility(field: Field, cameras: Cameras, index: int = 0) -> Float[Tensor, "height width"]:
    """How well the block's training cameras saw what each pixel shows (Tancik et al. 2022, section 4.3.1).

    Predicted transmittance of the samples along each ray, weighted by what the proposals find there. Sky counts as
    not seen: it says nothing about the block. The mean over a low-resolution picture decides on culling.
    """
    return glance(field, cameras, index).visibility


def _glance_along(field: Field, rays: RayBundle) -> tuple[Tensor, Tensor, Tensor]:
    samples, _ = sample_proposals(field.proposal_densities, rays, spacing_of(field), field.sample_counts)
    last = field.proposal_densities[-1]
    weights, _ = weights_from_density(last(samples.points, samples.footprints), samples.distances)
    seen = (weights * field.visibility(samples.points, rays.directions)).sum(-1)
    return seen, expected_depth(weights, samples.middles, field.far), weights.sum(-1)


def _tiles(count: int) -> list[slice]:
    return [slice(start, min(start + TILE_RAYS, count)) for start in range(0, count, TILE_RAYS)]
