"""Finding the appearance code that makes a field look like given pixels, with all weights frozen."""

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
    """What rays hit, evaluated once: only colors depend on the code, so fitting never touches the geometry again."""

    features: Float[Tensor, "rays samples features"]
    ray_weights: Float[Tensor, "rays samples"]
    directions: Float[Tensor, "rays 3"]
    exposure: Float[Tensor, "rays"]

    def color(self, field: Field, code: Float[Tensor, "codes"]) -> Float[Tensor, "rays 3"]:
        """Colors of the rays with a code; gradients reach the code."""
        rows = code.expand(len(self.directions), -1)
        colors = field.color(self.features, self.directions, rows, self.exposure)
        sky = field.sky(self.directions, rows, self.exposure)
        return composite(self.ray_weights, colors, sky)


@torch.no_grad()
def cache_rays(field: Field, rays: RayBundle, exposure: float) -> CachedRays:
    """Evaluate everything about rays, which lie where the field does, that does not depend on the appearance code."""
    exposures = rays.pixel_radii.new_full((len(rays),), exposure)
    code = rays.pixel_radii.new_zeros(len(rays), field.appearance_dim)
    seen = render_rays(field, rays, code, exposures)
    _, features = field.density(seen.samples.points, seen.samples.radii)
    return CachedRays(features=features, ray_weights=seen.weights, directions=rays.directions, exposure=exposures)


def optimize_code(
    field: Field,
    rays: RayBundle,
    target: Float[Tensor, "rays 3"],
    exposure: float,
    *,
    start: Float[Tensor, "codes"],
    steps: int = FIT_STEPS,
) -> Float[Tensor, "codes"]:
    """The code, starting from `start`, that minimizes the squared color error (Tancik et al. 2022, section 4.3.3).

    The field's weights take no gradient and do not change. The rays lie where the field does, and so does the code.
    """
    return optimize_cached(field, cache_rays(field, rays, exposure), target, starts=[start], steps=steps)


def optimize_cached(
    field: Field,
    frozen: CachedRays,
    target: Float[Tensor, "rays 3"],
    *,
    starts: Sequence[Float[Tensor, "codes"]],
    steps: int = FIT_STEPS,
    weights: Float[Tensor, "rays"] | None = None,
    hold: float = 0.0,
) -> Float[Tensor, "codes"]:
    """The code that minimizes the squared color error of rays, from the best of some starts.

    Args:
        field: The field, whose weights do not change.
        frozen: What the rays hit in it.
        target: The colors they should have.
        starts: Codes to begin with; the one with the least error is taken.
        steps: Of the descent.
        weights: How much each ray counts, not negative; by default all alike.
        hold: Weight of the squared distance from the start beside the mean squared error.
    """
    place = frozen.exposure.device
    target, starts = target.to(place), [start.to(place) for start in starts]
    shares = torch.ones_like(frozen.exposure) if weights is None else weights.to(place)
    shares = shares / (3.0 * shares.sum()).clamp_min(1e-12)

    def error(code: Float[Tensor, "codes"]) -> Tensor:
        return (shares[:, None] * (frozen.color(field, code) - target).square()).sum()

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
