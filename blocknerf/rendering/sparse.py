"""Rendering that skips what is known to be empty and stops where a ray is spent.

The samples are the same as in plain rendering; only those that can matter are evaluated, so the picture is
the same up to the thresholds below, at a fraction of the work.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.quadrature import weights_from_density
from blocknerf.rendering.protocol import Field, Occupancy
from blocknerf.rendering.rays import expected_depth, spacing_of
from blocknerf.sampling.intervals import resample, uniform_edges
from blocknerf.sampling.proposal import samples_at

WAVES = 3
"""Parts in which a ray's samples are evaluated, front to back; a spent ray takes no further part."""
SPENT = 1e-3
"""Transmittance below which nothing behind can change an 8-bit pixel."""


@torch.no_grad()
def render_rays_sparse(
    field: Field,
    occupancy: Occupancy,
    rays: RayBundle,
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Color, depth and opacity of rays, as `render_rays` gives them without jitter."""
    spacing = spacing_of(field)
    counts = field.sample_counts
    edges = uniform_edges(len(rays), counts[0])
    for proposal, count in zip(field.proposal_densities, counts[1:], strict=True):
        samples = samples_at(edges, rays, spacing)
        occupied = occupancy.occupied(samples.points)
        density = torch.zeros_like(samples.middles)
        density[occupied] = proposal(samples.points[occupied], samples.footprints[occupied])
        weights, _ = weights_from_density(density, samples.distances)
        edges = resample(edges, weights, count)
    samples = samples_at(edges, rays, spacing)
    occupied = occupancy.occupied(samples.points)
    density, colors = torch.zeros_like(samples.middles), torch.zeros_like(samples.points)
    passed = torch.ones(len(rays))
    for wave in _waves(counts[-1]):
        chosen = occupied[:, wave] & (passed > SPENT)[:, None]
        part, hue = _evaluate(field, samples.points[:, wave], samples.footprints[:, wave], chosen, rays, code, exposure)
        density[:, wave], colors[:, wave] = part, hue
        widths = samples.distances[:, 1:][:, wave] - samples.distances[:, :-1][:, wave]
        passed = passed * torch.exp(-(part * widths).sum(-1))
    weights, _ = weights_from_density(density, samples.distances)
    opacity = weights.sum(-1)
    sky = field.sky(rays.directions, code, exposure)
    color = (weights[..., None] * colors).sum(-2) + (1.0 - opacity)[:, None] * sky
    return color.clamp(0.0, 1.0), expected_depth(weights, samples.middles, field.far), opacity


def _evaluate(
    field: Field,
    points: Float[Tensor, "rays wave 3"],
    footprints: Float[Tensor, "rays wave"],
    chosen: Bool[Tensor, "rays wave"],
    rays: RayBundle,
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
) -> tuple[Float[Tensor, "rays wave"], Float[Tensor, "rays wave 3"]]:
    """Density and color of the chosen samples, zero elsewhere; rays with no chosen sample are not touched at all."""
    density, colors = torch.zeros_like(footprints), torch.zeros_like(points)
    live = chosen.any(-1).nonzero()[:, 0]
    if not len(live):
        return density, colors
    picked = chosen[live]
    full, features = field.density(points[live][picked], footprints[live][picked])
    rows = torch.zeros(*picked.shape, features.shape[-1])
    rows[picked] = features
    found = torch.zeros_like(footprints[live])
    found[picked] = full
    density[live] = found
    colors[live] = field.color(rows, rays.directions[live], code[live], exposure[live])
    return density, colors


def _waves(samples: int) -> list[slice]:
    size = -(-samples // WAVES)
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]
