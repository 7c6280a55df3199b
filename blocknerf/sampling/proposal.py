"""Proposal sampling: cheap density fields say where along a ray the costly one is worth evaluating."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.ray_samples import RaySamples, make_ray_samples
from blocknerf.kernels.volume_rendering import weights_from_density
from blocknerf.ray_spacing import RaySpacing
from blocknerf.sampling.intervals import sample_pdf, uniform_bins

DensityFunction = Callable[[Tensor, Tensor], Tensor]
"""Density (per world unit) of points `[rays samples 3]` with footprints `[rays samples]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHistogram:
    """Weights along rays on bins between edges, in normalized positions."""

    s_edges: Float[Tensor, "rays edges"]
    weights: Float[Tensor, "rays bins"]


def sample_proposals(
    densities: Sequence[DensityFunction],
    rays: RayBundle,
    spacing: RaySpacing,
    counts: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    anneal: float | Float[Tensor, ""] = 1.0,
    train_proposals: bool = False,
) -> tuple[RaySamples, list[RayHistogram]]:
    """Samples for the final field, and the proposal histograms that chose them (mip-NeRF 360, section 3).

    Args:
        densities: One function for each round of proposals.
        rays: The rays.
        spacing: Where rays begin and end, and how distance is spread.
        counts: Samples of each proposal round, then of the final field; one longer than `densities`.
        generator: Source of the jitter; none gives the same samples every time.
        anneal: Exponent on the proposal weights; small values spread samples early in training.
        train_proposals: Whether the histograms carry gradients to the proposal fields.
    """
    if len(counts) != len(densities) + 1:
        raise ValueError(f"{len(densities)} proposal rounds need {len(densities) + 1} sample counts, not {len(counts)}")
    edges = uniform_bins(len(rays), counts[0], generator, rays.origins.device)
    # Rays may carry gradients to poses; those are for the color of what is seen, not for where samples go.
    still = rays.detach()
    history: list[RayHistogram] = []
    for density, count in zip(densities, counts[1:], strict=True):
        samples = make_ray_samples(edges, still, spacing)
        with torch.set_grad_enabled(train_proposals):
            weights, _ = weights_from_density(density(samples.points, samples.radii), samples.t_edges)
        history.append(RayHistogram(s_edges=edges, weights=weights))
        edges = sample_pdf(edges, weights.detach() ** anneal, count, generator)
    return make_ray_samples(edges, rays, spacing), history
