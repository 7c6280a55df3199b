"""Inverse transform sampling in plain PyTorch, for any device and type. Tests hold the other backends to it."""

import torch
from jaxtyping import Float
from torch import Tensor


def sample_pdf(
    edges: Float[Tensor, "rays edges"],
    weights: Float[Tensor, "rays bins"],
    jitter: Float[Tensor, "rays"],
    bins: int,
    padding: float,
) -> Float[Tensor, "rays finer"]:
    """Return edges at even quantiles of the padded weight."""
    padded = weights + padding / weights.shape[-1]
    cumulative = torch.cumsum(padded, dim=-1)
    cumulative = torch.nn.functional.pad(cumulative / cumulative[:, -1:], (1, 0))
    columns = torch.arange(bins + 1, device=edges.device, dtype=edges.dtype)
    u = ((columns + jitter[:, None]) / (bins + 1)).contiguous()
    above = torch.searchsorted(cumulative, u, right=True).clamp(1, edges.shape[-1] - 1)
    below = above - 1
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    start, end = edges.gather(-1, below), edges.gather(-1, above)
    return start + ((u - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0) * (end - start)
