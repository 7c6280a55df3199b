"""Optimization of an appearance code to match given pixels, with all network weights frozen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.volume_rendering import composite
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import render_rays

FIT_STEPS = 60
FIT_RATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRays:
    """Samples and weights of rays, evaluated once: only the colors depend on the code."""

    features: Float[Tensor, "rays samples features"]
    ray_weights: Float[Tensor, "rays samples"]
    directions: Float[Tensor, "rays 3"]
    exposure: Float[Tensor, "rays"]

    def color(self, field: Field, code: Float[Tensor, "codes"]) -> Float[Tensor, "rays 3"]:
        """Return the colors of the rays with a code; gradients flow to the code."""
        codes = code.expand(len(self.directions), -1)
        colors = field.color(self.features, self.directions, codes, self.exposure)
        sky = field.sky(self.directions, codes, self.exposure)
        return composite(self.ray_weights, colors, sky)


@torch.no_grad()
def cache_rays(field: Field, rays: RayBundle, exposure: float) -> CachedRays:
    """Evaluate everything about rays that does not depend on the appearance code; rays are on the field's device."""
    exposures = rays.pixel_radii.new_full((len(rays),), exposure)
    code = rays.pixel_radii.new_zeros(len(rays), field.appearance_dim)
    outputs = render_rays(field, rays, code, exposures)
    _, features = field.density(outputs.samples.points, outputs.samples.radii)
    return CachedRays(features=features, ray_weights=outputs.weights, directions=rays.directions, exposure=exposures)


def optimize_code(
    field: Field,
    rays: RayBundle,
    target: Float[Tensor, "rays 3"],
    exposure: float,
    *,
    start: Float[Tensor, "codes"],
    steps: int = FIT_STEPS,
) -> Float[Tensor, "codes"]:
    """Return the code that minimizes the squared color error (Tancik et al. 2022, section 4.3.3).

    The optimization begins at `start`. The weights of the field get no gradients and do not change. The rays are on the
    field's device, and so is the result.
    """
    return optimize_cached(field, cache_rays(field, rays, exposure), target, starts=[start], steps=steps)


def optimize_cached(
    field: Field,
    cached_rays: CachedRays,
    target: Float[Tensor, "rays 3"],
    *,
    starts: Sequence[Float[Tensor, "codes"]],
    steps: int = FIT_STEPS,
    weights: Float[Tensor, "rays"] | None = None,
    hold: float = 0.0,
) -> Float[Tensor, "codes"]:
    """Return the code that minimizes the squared color error of cached rays, from the best of several initial codes.

    Args:
        field: The field; its weights do not change.
        cached_rays: The rays, evaluated in this field.
        target: The target color of each ray.
        starts: Initial codes; the one with the smallest error is used.
        steps: Optimization steps.
        weights: Weight of each ray, at least zero; equal by default.
        hold: Weight of the squared distance from the initial code, relative to the mean squared error.
    """
    device = cached_rays.exposure.device
    target, starts = target.to(device), [start.to(device) for start in starts]
    ray_weights = torch.ones_like(cached_rays.exposure) if weights is None else weights.to(device)
    ray_weights = ray_weights / (3.0 * ray_weights.sum()).clamp_min(1e-12)

    def error(code: Float[Tensor, "codes"]) -> Tensor:
        return (ray_weights[:, None] * (cached_rays.color(field, code) - target).square()).sum()

    with torch.no_grad():
        best = min(starts, key=lambda start: float(error(start)))
    code = best.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([code], lr=FIT_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = FIT_RATE * (1.0 - step / steps)
        loss = error(code) + hold * (code - best).square().sum()
        (code.grad,) = torch.autograd.grad(loss, code)
        optimizer.step()
    return code.detach()
