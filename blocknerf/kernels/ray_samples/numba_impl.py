"""Numba (CPU, float32) ray samples: one pass where PyTorch makes a dozen."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.geometry import RaySpacing
from blocknerf.kernels.threads import apply_numba_threads

CHUNK_PER_THREAD = 256
"""Rays per unit of work of a thread."""

_ONE, _TWO, _HALF, _TINY = np.float32(1.0), np.float32(2.0), np.float32(0.5), np.float32(1e-9)


def make_ray_samples(
    edges: Float[Tensor, "rays edges"], rays: RayBundle, spacing: RaySpacing
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Numba version of `torch_impl.make_ray_samples`, without gradients."""
    count, width = edges.shape
    apply_numba_threads(max_threads=1 + count // CHUNK_PER_THREAD)
    samples = max(width - 1, 0)
    t_edges, t_mids, sample_radii = (edges.new_empty(count, columns) for columns in (width, samples, samples))
    points = edges.new_empty(count, samples, 3)
    s_near, high = spacing.s_range
    inputs = (edges, rays.origins, rays.directions, rays.pixel_radii)
    _make_ray_samples(
        *(tensor.detach().contiguous().numpy() for tensor in inputs),
        np.array([s_near, high - s_near, spacing.linear_until], np.float32),
        *(tensor.numpy() for tensor in (t_edges, t_mids, points, sample_radii)),
    )  # fmt: skip
    return t_edges, t_mids, points, sample_radii


# No fused multiply-add: far away, edges differ only by rounding, which must match the reference.
@njit(parallel=True, error_model="numpy", cache=True)
@no_type_check
def _make_ray_samples(edges, origins, directions, radii, spacing, t_edges, t_mids, points, sample_radii):
    rays, width = edges.shape
    s_near, s_extent, linear_until = spacing[0], spacing[1], spacing[2]
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            for edge in range(width):
                s = edges[ray, edge] * s_extent + s_near
                rest = _ONE - s
                rest = _TINY if rest < _TINY else rest
                t_edges[ray, edge] = linear_until * (_TWO * s if s < _HALF else _HALF / rest)
            x, y, z, radius = origins[ray, 0], origins[ray, 1], origins[ray, 2], radii[ray]
            u, v, w = directions[ray, 0], directions[ray, 1], directions[ray, 2]
            for sample in range(t_mids.shape[1]):
                t_mid = _HALF * (t_edges[ray, sample] + t_edges[ray, sample + 1])
                t_mids[ray, sample] = t_mid
                points[ray, sample, 0] = x + t_mid * u
                points[ray, sample, 1] = y + t_mid * v
                points[ray, sample, 2] = z + t_mid * w
                sample_radii[ray, sample] = t_mid * radius
