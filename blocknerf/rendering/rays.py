"""Volume rendering of a bundle of rays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.radiance.activations import scale_gradient
from blocknerf.kernels.ray_samples import RaySamples
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.ray_spacing import RaySpacing
from blocknerf.rendering.protocol import Field, SupportsRadiance
from blocknerf.sampling.proposal import RayHistogram, sample_proposals


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOutputs:
    """What rays see, and the samples that say so."""

    color: Float[Tensor, "rays 3"]
    opacity: Float[Tensor, "rays"]
    depth: Float[Tensor, "rays"]
    """Expected distance along the ray of what is not sky, in world units; `far` where all is sky."""
    weights: Float[Tensor, "rays samples"]
    transmittance: Float[Tensor, "rays samples"]
    samples: RaySamples
    proposals: list[RayHistogram]


def ray_spacing(field: Field) -> RaySpacing:
    """How a field spreads samples along rays."""
    return RaySpacing(near=field.near, far=field.far, linear_until=field.linear_until)


def render_rays(
    field: Field,
    rays: RayBundle,
    code: Float[Tensor, "rays codes"],
    exposure: Float[Tensor, "rays"],
    *,
    generator: torch.Generator | None = None,
    anneal: float | Float[Tensor, ""] = 1.0,
    train_proposals: bool = False,
    gradient_scaling_distance: float = 0.0,
) -> RayOutputs:
    """Colors, depths and weights along rays, with the sky behind (NeRF, eq. 3).

    Args:
        field: The field to look at.
        rays: A flat bundle.
        code: Appearance code of each ray.
        exposure: Exposure of each ray.
        generator: Source of sampling jitter in training; none samples at fixed places.
        anneal: Exponent on proposal weights, rising to 1 early in training.
        train_proposals: Whether proposal histograms carry gradients.
        near_fade: Distance below which gradients fade with its square, so that no floaters grow in front of
            cameras (Philip and Deschaintre 2023); zero leaves gradients alone.
    """
    samples, proposals = sample_proposals(
        field.proposal_density_fns,
        rays,
        ray_spacing(field),
        field.num_samples,
        generator=generator,
        anneal=anneal,
        train_proposals=train_proposals,
    )
    fade = (
        (samples.t_mids / gradient_scaling_distance).square().clamp(max=1.0)
        if gradient_scaling_distance > 0.0
        else None
    )
    density, colors = _radiance(field, samples, rays, code, exposure, fade)
    weights, transmittance = weights_from_density(density, samples.t_edges)
    opacity = weights.sum(-1)
    sky = field.sky(rays.directions, code, exposure)
    color = composite(weights, colors, sky)
    return RayOutputs(
        color=color,
        opacity=opacity,
        depth=expected_depth(weights, samples.t_mids, field.far),
        weights=weights,
        transmittance=transmittance,
        samples=samples,
        proposals=proposals,
    )


def _radiance(
    field: Field, samples: RaySamples, rays: RayBundle, code: Tensor, exposure: Tensor, fade: Tensor | None
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples 3"]]:
    """Density and color of samples, in one pass where the field has one."""
    if isinstance(field, SupportsRadiance):
        return field.radiance(samples.points, samples.radii, rays.directions, code, exposure, fade)
    density, features = field.density(samples.points, samples.radii)
    if fade is not None:
        density, features = scale_gradient(density, fade), scale_gradient(features, fade[..., None])
    return density, field.color(features, rays.directions, code, exposure)


def expected_depth(
    weights: Float[Tensor, "rays samples"], middles: Float[Tensor, "rays samples"], far: float
) -> Float[Tensor, "rays"]:
    """Mean distance of what a ray hits; it goes to `far` as the ray's opacity goes to zero."""
    opacity = weights.sum(-1)
    return (weights * middles).sum(-1) + (1.0 - opacity).clamp_min(0.0) * far
