"""Intervals along rays in Numba for the processor, float32: one pass where PyTorch makes a dozen."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.kernels.threads import apply_numba_threads
from blocknerf.ray_spacing import RaySpacing

SPAN = 256
"""Rays that a thread takes at once."""

_ONE, _TWO, _HALF, _TINY = np.float32(1.0), np.float32(2.0), np.float32(0.5), np.float32(1e-9)


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `reference.make_ray_samples` gives, without gradients."""
    count, width = edges.shape
    apply_numba_threads(most=1 + count // SPAN)
    samples = max(width - 1, 0)
    distances, middles, footprints = (edges.new_empty(count, columns) for columns in (width, samples, samples))
    points = edges.new_empty(count, samples, 3)
    low, high = spacing.s_range
    given = (edges, rays.origins, rays.directions, rays.pixel_radii)
    _place(
        *(tensor.detach().contiguous().numpy() for tensor in given),
        np.array([low, high - low, spacing.linear_until], np.float32),
        *(tensor.numpy() for tensor in (distances, middles, points, footprints)),
    )
    return distances, middles, points, footprints


# Nothing is contracted: far away, rounding is all that edges differ by, and it is to be the reference's.
@njit(parallel=True, error_model="numpy", cache=True)
@no_type_check
def _place(edges, origins, directions, radii, spacing, distances, middles, points, footprints):
    rays, width = edges.shape
    low, extent, knee = spacing[0], spacing[1], spacing[2]
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            for edge in range(width):
                squashed = edges[ray, edge] * extent + low
                rest = _ONE - squashed
                rest = _TINY if rest < _TINY else rest
                distances[ray, edge] = knee * (_TWO * squashed if squashed < _HALF else _HALF / rest)
            x, y, z, radius = origins[ray, 0], origins[ray, 1], origins[ray, 2], radii[ray]
            u, v, w = directions[ray, 0], directions[ray, 1], directions[ray, 2]
            for sample in range(middles.shape[1]):
                middle = _HALF * (distances[ray, sample] + distances[ray, sample + 1])
                middles[ray, sample] = middle
                points[ray, sample, 0] = x + middle * u
                points[ray, sample, 1] = y + middle * v
                points[ray, sample, 2] = z + middle * w
                footprints[ray, sample] = middle * radius
