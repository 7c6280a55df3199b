"""Resampling in Numba for the processor, float32: shares are sorted, so one walk along a ray finds all their bins."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit, prange
from torch import Tensor

from blocknerf.kernels.threads import enter_numba

SPAN = 256
"""Rays that a thread takes at once."""

_ZERO, _ONE, _TINY = np.float32(0.0), np.float32(1.0), np.float32(1e-9)


def resample(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """What `reference.resample` gives, by compiled loops."""
    enter_numba(most=1 + len(edges) // SPAN)
    out = edges.new_empty(len(edges), bins + 1)
    arrays = [tensor.contiguous().numpy() for tensor in (edges, weights, jitter)]
    _resample(*arrays, np.float32(padding / weights.shape[1]), out.numpy())
    return out


@njit(parallel=True, error_model="numpy", cache=True)
@no_type_check
def _resample(edges, weights, jitter, padding, out):
    rays, bins = weights.shape
    finer = out.shape[1]
    step = _ONE / np.float32(finer)
    for span in prange((rays + SPAN - 1) // SPAN):
        for ray in range(span * SPAN, min((span + 1) * SPAN, rays)):
            total = _ZERO
            for index in range(bins):
                total += weights[ray, index] + padding
            scale = _ONE / total
            index, low, high = 0, _ZERO, (weights[ray, 0] + padding) * scale
            for column in range(finer):
                share = (np.float32(column) + jitter[ray]) * step
                while share >= high and index < bins - 1:
                    index += 1
                    low = high
                    high += (weights[ray, index] + padding) * scale
                part = min(max((share - low) / max(high - low, _TINY), _ZERO), _ONE)
                start = edges[ray, index]
                out[ray, column] = start + part * (edges[ray, index + 1] - start)
