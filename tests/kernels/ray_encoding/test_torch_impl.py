"""Encoding of directions: orthonormality and parity."""

import math

import numpy as np
import torch
from torch import Tensor

from blocknerf.kernels.ray_encoding.torch_impl import encode_directions


def sphere_quadrature() -> tuple[Tensor, Tensor]:
    """Return directions and weights that integrate polynomials up to degree 15 over the sphere exactly."""
    heights, ring_weights = np.polynomial.legendre.leggauss(8)
    angles = np.arange(16) * (2 * math.pi / 16)
    z, angle = np.meshgrid(heights, angles, indexing="ij")
    ring = np.sqrt(1.0 - z * z)
    directions = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], -1).reshape(-1, 3)
    weights = np.repeat(ring_weights, 16) * (2 * math.pi / 16)
    return torch.from_numpy(directions), torch.from_numpy(weights)


def test_spherical_harmonics_are_orthonormal() -> None:
    directions, weights = sphere_quadrature()
    values = encode_directions(directions)
    gram = (values * weights[:, None]).T @ values
    assert torch.allclose(gram, torch.eye(16, dtype=gram.dtype), atol=1e-6)


def test_spherical_harmonics_have_the_parity_of_their_degree() -> None:
    directions, _ = sphere_quadrature()
    parity = torch.tensor([1.0] + [-1.0] * 3 + [1.0] * 5 + [-1.0] * 7, dtype=torch.float64)
    assert torch.allclose(encode_directions(-directions), parity * encode_directions(directions), atol=1e-12)
