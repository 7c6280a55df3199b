"""Optimization of an appearance code to match given pixels, with all network weights frozen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.volume_rendering import composite, weights_from_density
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import ray_spacing
from blocknerf.sampling import sample_proposals

FIT_STEPS = 60
"""The paper needs fewer than 100 steps."""
FIT_RATE = 0.05
"""Initial learning rate; it falls linearly to zero.

Adam moves a number by at most about the rate per step, so the steps above can move it by 1.5. That is far more than the
spread of trained codes, 0.01 to 0.02.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedRays:
    """Samples and weights of rays, evaluated once: only the colors depend on the code."""

    features: Float[Tensor, "rays samples features"]
    weights: Float[Tensor, "rays samples"]
    directions: Float[Tensor, "rays 3"]
    exposure: Float[Tensor, "rays"]

    def color(self, field: Field, code: Float[Tensor, "codes"]) -> Float[Tensor, "rays 3"]:
        """Return the colors of the rays with a code; gradients flow to the code."""
        codes = code.expand(len(self.directions), -1)
        colors = field.color(self.features, self.directions, codes, self.exposure)
        sky = field.sky(self.directions, codes, self.exposure)
        return composite(self.weights, colors, sky)


@torch.no_grad()
def cache_rays(field: Field, rays: RayBundle, exposure: float) -> CachedRays:
    """Evaluate everything about rays that does not depend on the appearance code; rays are on the field's device."""
    samples, _ = sample_proposals(field.proposal_density_fns, rays, ray_spacing(field), field.num_samples)
    density, features = field.density(samples.points, samples.radii)
    weights, _ = weights_from_density(density, samples.t_edges)
    exposures = rays.pixel_radii.new_full((len(rays),), exposure)
    return CachedRays(features=features, weights=weights, directions=rays.directions, exposure=exposures)


def optimize_code(
    field: Field,
    rays: RayBundle,
    target: Float[Tensor, "rays 3"],
    exposure: float,
    *,
    initial_code: Float[Tensor, "codes"],
    steps: int = FIT_STEPS,
) -> Float[Tensor, "codes"]:
    """Return the code that minimizes the squared color error (Tancik et al. 2022, section 4.3.3).

    The weights of the field get no gradients and do not change. The rays are on the
    field's device, and so is the result.
    """
    return optimize_cached(field, cache_rays(field, rays, exposure), target, initial_codes=[initial_code], steps=steps)


def optimize_cached(
    field: Field,
    cached_rays: CachedRays,
    target: Float[Tensor, "rays 3"],
    *,
    initial_codes: Sequence[Float[Tensor, "codes"]],
    steps: int = FIT_STEPS,
    ray_weights: Float[Tensor, "rays"] | None = None,
    code_reg: float = 0.0,
) -> Float[Tensor, "codes"]:
    """Return the code that minimizes the squared color error of cached rays, from the best of several initial codes.

    Args:
        field: The field; its weights do not change.
        cached_rays: The rays, evaluated in this field.
        target: The target color of each ray.
        initial_codes: Candidates for the initial code; the one with the smallest error is used.
        steps: Optimization steps.
        ray_weights: Weight of each ray, at least zero; equal by default.
        code_reg: Weight of the squared distance from the initial code, relative to the mean squared error.
    """
    device = cached_rays.exposure.device
    target, initial_codes = target.to(device), [code.to(device) for code in initial_codes]
    weights = torch.ones_like(cached_rays.exposure) if ray_weights is None else ray_weights.to(device)
    weights = weights / (3.0 * weights.sum()).clamp_min(1e-12)

    def error(code: Float[Tensor, "codes"]) -> Tensor:
        return (weights[:, None] * (cached_rays.color(field, code) - target).square()).sum()

    with torch.no_grad():
        best = min(initial_codes, key=lambda code: float(error(code)))
    code = best.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([code], lr=FIT_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = FIT_RATE * (1.0 - step / steps)
        loss = error(code) + code_reg * (code - best).square().sum()
        (code.grad,) = torch.autograd.grad(loss, code)
        optimizer.step()
    return code.detach()
