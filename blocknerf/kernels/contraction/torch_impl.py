"""Contraction in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

from jaxtyping import Float
from torch import Tensor

from blocknerf.geometry import contract


def contract_to_unit_cube(
    points: Float[Tensor, "points 3"],
    footprints: Float[Tensor, "points"],
    origin: tuple[float, float, float],
    half_extent: float,
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points"]]:
    """Return contracted points, and footprints in unit-cube lengths."""
    normalized = (points - points.new_tensor(origin)) / half_extent
    norm = normalized.abs().amax(-1).clamp_min(1.0)
    return contract(normalized) * 0.25 + 0.5, footprints * ((2.0 - 1.0 / norm) / (norm * (4.0 * half_extent)))
