"""Ray marching through a block's networks, and the parameters of a block for it."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.backends import Backend, find_implementation
from blocknerf.kernels.radiance import ColorParams, HashGridParams, unfit

MIN_TRANSMITTANCE = 1.0 / 256.0
"""Transmittance, or fraction of a weight, that is too small to see: one step of an 8-bit image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldParams:
    """The networks of a block, its position and its ray sampling; lengths are in world units."""

    proposal: HashGridParams
    """Outputs the density logit that places samples."""
    field: HashGridParams
    """Outputs features; the first is the density logit."""
    color: ColorParams
    origin: tuple[float, float, float]
    half_extent: float
    spacing: RaySpacing
    proposal_samples: int
    samples: int
    occupancy: Bool[Tensor, "side side side"] | None
    """Which cells of the contracted cube are not empty; None if unknown."""
    min_std: Float[Tensor, "lattice lattice lattice"] | None = None
    """Smallest standard deviation of samples, in unit-cube lengths (`raise_std`); None for no limit."""


def march(
    network: FieldParams,
    rays: RayBundle,
    ray_bias: Float[Tensor, "rays hidden"],
    sky: Float[Tensor, "rays 3"],
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays"], Float[Tensor, "rays"]]:
    """Return color, depth and opacity of rays (NeRF, eq. 3), front to back and without gradients.

    `ray_bias` is added to the first layer of the color network for all samples of a ray. `sky` is the background color.
    Samples in empty cells have zero density. A ray ends when its transmittance is below MIN_TRANSMITTANCE. Samples with
    a weight below MIN_TRANSMITTANCE of the ray's opacity may take the mean color of the others.

    Raises:
        BackendError: The requested backend cannot be used here.
    """
    tensors = (rays.origins, rays.directions, rays.pixel_radii, ray_bias, sky, network.field.table)
    limits = unfit(network.proposal) | unfit(network.field, network.color)
    return find_implementation("marching", backend, *tensors, unfit=limits).march(network, rays, ray_bias, sky)
