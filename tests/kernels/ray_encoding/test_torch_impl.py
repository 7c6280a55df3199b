"""Fixed encodings: orthonormality, distinctness, and values computed by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from blocknerf.kernels.ray_encoding.torch_impl import encode_directions, encode_exposure


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


def test_exposures_of_different_stops_have_distinct_encodings() -> None:
    stops = torch.arange(-7.5, 7.75, 0.25)
    encoded = encode_exposure(0.01 * 2.0**stops, 0.01)
    distances = torch.cdist(encoded, encoded) + 10.0 * torch.eye(len(stops))
    assert encoded.abs().max() <= 1.0
    assert distances.min() > 0.25


def test_exposure_encoding_does_not_depend_on_the_unit() -> None:
    exposure = torch.tensor([0.004, 0.01, 0.033])
    assert torch.allclose(encode_exposure(exposure, 0.01), encode_exposure(1000 * exposure, 10.0), atol=1e-5)


def test_reference_exposure_is_the_middle() -> None:
    encoded = encode_exposure(torch.tensor([0.01]), 0.01)
    assert torch.allclose(encoded, torch.tensor([[0.0] * 4 + [1.0] * 4]), atol=1e-6)


@pytest.mark.parametrize("exposure", [0.0, -1.0, 1e-30, 1e30])
def test_extreme_exposures_stay_finite(exposure: float) -> None:
    assert torch.isfinite(encode_exposure(torch.tensor([exposure]), 0.01)).all()
