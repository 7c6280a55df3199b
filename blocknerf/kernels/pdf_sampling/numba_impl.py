"""Numba (CPU, float32) inverse transform sampling: quantiles are sorted, so one pass along a ray finds all bins."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads

CHUNK_PER_THREAD = 256
"""Rays per unit of work of a thread."""

_ZERO, _ONE, _TINY = np.float32(0.0), np.float32(1.0), np.float32(1e-9)


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """Numba version of `torch_impl.sample_pdf`."""
    apply_numba_threads(max_threads=1 + len(edges) // CHUNK_PER_THREAD)
    out = edges.new_empty(len(edges), bins + 1)
    arrays = [tensor.contiguous().numpy() for tensor in (edges, weights, jitter)]
    _sample_pdf(*arrays, np.float32(padding / weights.shape[1]), out.numpy())
    return out


@njit(parallel=True, error_model="numpy", cache=True)
@no_type_check
def _sample_pdf(edges, weights, jitter, padding, out):
    rays = weights.shape[0]
    for chunk in prange((rays + CHUNK_PER_THREAD - 1) // CHUNK_PER_THREAD):
        for ray in range(chunk * CHUNK_PER_THREAD, min((chunk + 1) * CHUNK_PER_THREAD, rays)):
            total = _ZERO
            for index in range(weights.shape[1]):
                total += weights[ray, index]
            sample_ray(edges[ray], weights[ray], total, jitter[ray], padding, out[ray])


@njit(error_model="numpy")
@no_type_check
def sample_ray(edges, weights, total, jitter, padding, out):
    """Sample one ray with weights that sum to `total`; `padding` is added to every bin."""
    bins, num_out = weights.shape[0], out.shape[0]
    inv_count, scale = _ONE / np.float32(num_out), _ONE / (total + np.float32(bins) * padding)
    index, low, high = 0, _ZERO, (weights[0] + padding) * scale
    for column in range(num_out):
        u = (np.float32(column) + jitter) * inv_count
        while u >= high and index < bins - 1:
            index += 1
            low = high
            high += (weights[index] + padding) * scale
        fraction = min(max((u - low) / max(high - low, _TINY), _ZERO), _ONE)
        start = edges[index]
        out[column] = start + fraction * (edges[index + 1] - start)
