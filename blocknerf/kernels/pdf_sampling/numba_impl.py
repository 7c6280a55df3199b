"""Resampling in Numba for the processor, float32: shares are sorted, so one walk along a ray finds all their bins."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import apply_numba_threads

SPAN = 256
"""Rays that a thread takes at once."""

_ZERO, _ONE, _TINY = np.float32(0.0), np.float32(1.0), np.float32(1e-9)


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """What `reference.sample_pdf` gives, by compiled loops."""
    apply_numba_threads(most=1 + len(edges) // SPAN)
    out = edges.new_empty(len(edges), bins + 1)
    arrays = [tensor.contiguous().numpy() for tensor in (edges, weights, jitter)]
    _resample(*arrays, np.float32(padding / weights.shape[1]), out.numpy())
    return out


@njit(parallel=True, error_model="numpy", cache=True)
@no_type_check
def _resample(edges, weights, jitter, padding, out):
    rays = weights.shape[0]
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            total = _ZERO
            for index in range(weights.shape[1]):
                total += weights[ray, index]
            sample_ray(edges[ray], weights[ray], total, jitter[ray], padding, out[ray])


@njit(error_model="numpy")
@no_type_check
def sample_ray(edges, weights, total, jitter, padding, out):
    """Resample one ray, whose weights add up to `total`; `padding` is what every bin is given besides."""
    bins, finer = weights.shape[0], out.shape[0]
    step, scale = _ONE / np.float32(finer), _ONE / (total + np.float32(bins) * padding)
    index, low, high = 0, _ZERO, (weights[0] + padding) * scale
    for column in range(finer):
        share = (np.float32(column) + jitter) * step
        while share >= high and index < bins - 1:
            index += 1
            low = high
            high += (weights[index] + padding) * scale
        part = min(max((share - low) / max(high - low, _TINY), _ZERO), _ONE)
        start = edges[index]
        out[column] = start + part * (edges[index + 1] - start)
