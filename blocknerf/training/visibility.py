"""Training loss of the visibility network: transmittance at points along the training rays."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.ray_samples import make_ray_samples
from blocknerf.rendering.protocol import Field
from blocknerf.rendering.rays import RayOutputs, ray_spacing
from blocknerf.sampling.intervals import uniform_bins
from blocknerf.sampling.proposal import RayHistogram
from blocknerf.training import losses

RAY_STRIDE = 4
"""The visibility network is trained on every n-th ray of a step."""


def visibility_loss(
    field: Field, rays: RayBundle, outputs: RayOutputs, generator: torch.Generator | None = None
) -> Float[Tensor, ""]:
    """Return the error of the predicted transmittance along some of a step's rays (Tancik et al. 2022, section 4.2.2).

    The transmittance is detached, so, unlike in the paper, no tiny weight is needed to protect the field. Half of
    the rays are evaluated at the field's samples and half at uniform samples: the field's samples are concentrated
    at surfaces, but culling also evaluates points far behind them. In a short training on the sample town, uniform
    samples lowered the mean prediction at such points (true value 0) from 0.27 to 0.21, and raised the correlation
    with the true visibility from 0.85 to 0.87 (`tests/benchmarks/visibility.py`).
    """
    rays = rays.detach()
    field_rays, uniform_rays = slice(0, None, 2 * RAY_STRIDE), slice(RAY_STRIDE, None, 2 * RAY_STRIDE)
    fine = RayHistogram(s_edges=outputs.samples.s_edges[uniform_rays], weights=outputs.weights[uniform_rays].detach())
    spacing, (count, samples) = ray_spacing(field), fine.weights.shape
    s_edges = uniform_bins(count, samples, generator, fine.weights.device)
    uniform = make_ray_samples(s_edges, rays[uniform_rays], spacing)
    uniform_transmittance = transmittance_at(fine, spacing.t_to_s(uniform.t_mids))
    points = torch.cat([outputs.samples.points[field_rays].detach(), uniform.points])
    directions = torch.cat([rays.directions[field_rays], rays.directions[uniform_rays]])
    transmittance = torch.cat([outputs.transmittance[field_rays], uniform_transmittance])
    return losses.visibility_loss(field.visibility(points, directions), transmittance)


def transmittance_at(
    histogram: RayHistogram, positions: Float[Tensor, "rays samples"]
) -> Float[Tensor, "rays samples"]:
    """Return the transmittance of each ray at normalized positions, interpolated linearly between the edges.

    >>> ray = RayHistogram(s_edges=torch.tensor([[0.0, 0.5, 1.0]]), weights=torch.tensor([[0.2, 0.8]]))
    >>> transmittance_at(ray, torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]]))
    tensor([[1.0000, 0.9000, 0.8000, 0.4000, 0.0000]])
    """
    edges = histogram.s_edges.contiguous()
    transmittance = 1.0 - torch.nn.functional.pad(histogram.weights.cumsum(-1), (1, 0))
    upper = torch.searchsorted(edges, positions.contiguous(), right=True).clamp(1, edges.shape[-1] - 1)
    low, high = edges.gather(-1, upper - 1), edges.gather(-1, upper)
    fraction = ((positions - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
    return torch.lerp(transmittance.gather(-1, upper - 1), transmittance.gather(-1, upper), fraction)
