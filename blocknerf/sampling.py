"""Placement of samples along rays: bin edges, and proposal fields that choose where the main field is evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.pdf_sampling import HISTOGRAM_PADDING
from blocknerf.kernels.pdf_sampling import sample_pdf as invert_histogram
from blocknerf.kernels.ray_samples import RaySamples, make_ray_samples
from blocknerf.kernels.volume_rendering import weights_from_density

DensityFunction = Callable[[Tensor, Tensor], Tensor]
"""Density (per world unit) of points `[rays samples 3]` with footprints `[rays samples]`."""


def uniform_bins(
    rays: int, bins: int, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, "rays edges"]:
    """Return evenly spaced bin edges on [0, 1]; with a generator, one random shift per ray moves the inner edges."""
    edges = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, bins + 1)
    if generator is None:
        return edges.contiguous()
    shift = torch.rand(rays, 1, generator=generator, device=device) - 0.5
    shifted = edges + shift / bins
    shifted[:, 0], shifted[:, -1] = 0.0, 1.0
    return shifted


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    bins: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "rays finer"]:
    """Draw bin edges from a histogram by stratified inverse transform sampling, with one jitter per ray.

    `edges` has one more column than `weights`; the result has `bins + 1` sorted columns within them.
    """
    if generator is None:
        jitter = edges.new_full((len(edges),), 0.5)
    else:
        jitter = torch.rand(len(edges), 1, generator=generator, device=edges.device, dtype=edges.dtype)[:, 0]
    return invert_histogram(edges, weights, jitter, bins, HISTOGRAM_PADDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHistogram:
    """Weights of the bins between edges along rays; edges are normalized positions s."""

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
    """Return samples for the main field, and the proposal histograms they come from (mip-NeRF 360, section 3).

    Args:
        densities: Density function of each proposal round.
        rays: The rays.
        spacing: Near and far end, and the spacing of samples between them.
        counts: Samples of each proposal round, then of the main field; one longer than `densities`.
        generator: Random generator of the jitter; None disables jitter.
        anneal: Exponent on the proposal weights; small values spread samples early in training.
        train_proposals: Whether gradients flow through the histograms to the proposal fields.
    """
    if len(counts) != len(densities) + 1:
        raise ValueError(f"{len(densities)} proposal rounds need {len(densities) + 1} sample counts, not {len(counts)}")
    edges = uniform_bins(len(rays), counts[0], generator, rays.origins.device)
    # Rays may carry gradients to poses; these come from colors, not from the positions of samples.
    detached = rays.detach()
    histograms: list[RayHistogram] = []
    for density, count in zip(densities, counts[1:], strict=True):
        samples = make_ray_samples(edges, detached, spacing)
        with torch.set_grad_enabled(train_proposals):
            weights, _ = weights_from_density(density(samples.points, samples.radii), samples.t_edges)
        histograms.append(RayHistogram(s_edges=edges, weights=weights))
        edges = sample_pdf(edges, weights.detach() ** anneal, count, generator)
    return make_ray_samples(edges, rays, spacing), histograms
