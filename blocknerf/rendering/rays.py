"""Volume rendering of a bundle of rays."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.radiance import scale_gradient
from blocknerf.kernels.ray_samples import RaySamples
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.rendering.protocol import Field, SupportsRadiance
from blocknerf.sampling import RayHistogram, sample_proposals


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOutputs:
    """Outputs of volume rendering, with the samples and proposals."""

    color: Float[Tensor, "rays 3"]
    opacity: Float[Tensor, "rays"]
    depth: Float[Tensor, "rays"]
    """Expected distance along the ray in world units, with sky at `far`."""
    weights: Float[Tensor, "rays samples"]
    transmittance: Float[Tensor, "rays samples"]
    samples: RaySamples
    proposals: list[RayHistogram]

    @property
    def histogram(self) -> RayHistogram:
        """The weights over the samples, for the losses that compare them with the proposals."""
        return RayHistogram(s_edges=self.samples.s_edges, weights=self.weights)


def ray_spacing(field: Field) -> RaySpacing:
    """Return the spacing of samples along the rays of a field."""
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
    """Render colors, depths and weights along rays, with the sky as background (NeRF, eq. 3).

    Args:
        field: The field to render.
        rays: A flat bundle.
        code: Appearance code of each ray.
        exposure: Exposure of each ray.
        generator: Random generator of the sampling jitter in training; None disables jitter.
        anneal: Exponent on proposal weights; rises to 1 early in training.
        train_proposals: Whether proposal histograms carry gradients.
        gradient_scaling_distance: Distance below which gradients are scaled by the squared relative distance, which
            prevents floaters in front of cameras (Philip and Deschaintre 2023); zero disables the scaling.
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
    gradient_scale = (
        (samples.t_mids / gradient_scaling_distance).square().clamp(max=1.0)
        if gradient_scaling_distance > 0.0
        else None
    )
    density, colors = _radiance(field, samples, rays, code, gradient_scale)
    weights, transmittance = weights_from_density(density, samples.t_edges)
    opacity = weights.sum(-1)
    color = composite(weights, colors, field.sky(rays.directions, code))
    return RayOutputs(
        color=field.expose(color, exposure),
        opacity=opacity,
        depth=expected_depth(weights, samples.t_mids, opacity, field.far),
        weights=weights,
        transmittance=transmittance,
        samples=samples,
        proposals=proposals,
    )


def _radiance(
    field: Field, samples: RaySamples, rays: RayBundle, code: Tensor, gradient_scale: Tensor | None
) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "rays samples 3"]]:
    """Return density and color of samples, in one pass if the field supports it."""
    if isinstance(field, SupportsRadiance):
        return field.radiance(samples.points, samples.radii, rays.directions, code, gradient_scale)
    density, features = field.density(samples.points, samples.radii)
    if gradient_scale is not None:
        density, features = scale_gradient(density, gradient_scale), scale_gradient(features, gradient_scale[..., None])
    return density, field.color(features, rays.directions, code)


def expected_depth(
    weights: Float[Tensor, "rays samples"],
    t_mids: Float[Tensor, "rays samples"],
    opacity: Float[Tensor, "rays"],
    far: float,
) -> Float[Tensor, "rays"]:
    """Return the expected distance along each ray; it approaches `far` as the opacity approaches zero."""
    return (weights * t_mids).sum(-1) + (1.0 - opacity).clamp_min(0.0) * far
