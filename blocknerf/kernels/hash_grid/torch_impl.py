"""Hash grid in plain PyTorch, for any device and floating type. Tests hold the other backends to it."""

import torch
from jaxtyping import Float, Float16, Int
from torch import Tensor

from blocknerf.kernels.hash_grid.spec import GridSpec, level_weights

PRIMES = (1, 2654435761, 805459861)
"""Factors of the spatial hash (tiny-cuda-nn's `coherent_prime_hash`)."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    spec: GridSpec,
    footprints: Float[Tensor, "points"] | None,
    active_levels: float | Tensor | None,
    half: Float16[Tensor, "entries features"] | None,
) -> Float[Tensor, "points encoded"]:
    """Return each level's interpolated features, times the level's gain and the sample's anti-aliasing weight."""
    gains = level_weights(spec.num_levels, active_levels)
    corners = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)], device=points.device)
    levels = []
    for level, scale in enumerate(spec.scales):
        if gains[level] == 0.0:
            levels.append(table.new_zeros(len(points), spec.features_per_level))
            continue
        position = points.clamp(0.0, 1.0) * scale + 0.5
        # A NaN point must not become an arbitrary index. Its fraction stays NaN, and so do its features.
        cell = position.detach().nan_to_num().floor()
        fraction = (position - cell)[:, None, :]
        weights = torch.where(corners.bool(), fraction, 1.0 - fraction).prod(-1)
        entries = table[level_index(cell.long()[:, None, :] + corners, spec, level)]
        level_features = (weights[..., None] * entries).sum(1) * gains[level]
        levels.append(
            level_features if footprints is None else level_features * antialiasing(footprints, scale)[:, None]
        )
    return torch.cat(levels, dim=-1)


def level_index(vertices: Int[Tensor, "points corners 3"], spec: GridSpec, level: int) -> Int[Tensor, "points corners"]:
    """Return the table indices of grid points of one level."""
    x, y, z = vertices.unbind(-1)
    first, size = spec.offsets[level], spec.offsets[level + 1] - spec.offsets[level]
    if spec.hashed[level]:
        index = (x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])
    else:
        index = x + spec.resolutions[level] * (y + spec.resolutions[level] * z)
    return first + index % size


def antialiasing(footprints: Float[Tensor, "points"], scale: float) -> Float[Tensor, "points"]:
    """Return the weight of a level with `scale` cells for samples with these standard deviations (unit-cube lengths).

    Zip-NeRF (Barron et al. 2023, eq. 4) uses erf(1 / sqrt(8 s^2)) with s = footprint x scale. Its limits are 1 for
    small s and 1 / (sqrt(2 pi) s) for large s. (1 + (2 pi s^2)^2)^(-1/4) has the same limits, differs by at most 0.06
    in between, and costs two square roots.
    """
    variance = 2.0 * torch.pi * (footprints * scale) ** 2
    return (1.0 + variance * variance) ** -0.25
