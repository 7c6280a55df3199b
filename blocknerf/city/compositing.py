"""Compositing of block renderings: limits on the number of blocks, the fallback block, and the weighted sum."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.weighting import NEAR_ORIGIN

MIN_WEIGHT = 1.0 / 512.0
"""Blend weights below this are dropped: they change a pixel by at most half a gray level."""

FALLBACK_THRESHOLD = 0.05
"""The nearest block fades in as fallback where no block's selection weight exceeds this.

A block's weight exceeds it except in the outermost 3.4 % of its selection radius (`selection.RANGE_FADE`), so the
fallback acts only where a camera is about to leave all blocks, or where none predicts visibility.
"""


def fallback_confidence(selection_weights: Sequence[float]) -> float:
    """Return 1, falling linearly to 0 where no block has a selection weight above `FALLBACK_THRESHOLD`.

    >>> fallback_confidence([0.0, 0.7]), round(fallback_confidence([0.01, 0.0]), 3)
    (1.0, 0.2)
    """
    return min(max(selection_weights) / FALLBACK_THRESHOLD, 1.0)


def blend_with_fallback(
    weights: Float[Tensor, "blocks *pixels"], confidence: float, nearest: int
) -> Float[Tensor, "blocks *pixels"]:
    """Blend toward the nearest block as selection confidence drops."""
    fallback = torch.zeros_like(weights)
    fallback[nearest] = 1.0
    return torch.lerp(fallback, weights, confidence)


def keep_top_k(weights: Float[Tensor, "blocks"], max_blocks: int) -> Float[Tensor, "blocks"]:
    """Return weights with at most `max_blocks` above zero, normalized to sum to one.

    The largest dropped weight is subtracted from all, so that blocks enter and leave at weight zero. Weights below
    `MIN_WEIGHT` are dropped too.

    >>> keep_top_k(torch.tensor([0.75, 0.25]), 3)
    tensor([0.7510, 0.2490])
    """
    ranked = weights.sort(descending=True).values
    floor = ranked[max_blocks] if len(weights) > max_blocks else ranked.new_zeros(())
    kept = (weights - floor.clamp_min(MIN_WEIGHT)).clamp_min(0.0)
    if kept.sum() > 0.0:
        return kept / kept.sum()
    # An exact tie with the largest dropped weight: keep the first ones.
    first = weights.argsort(descending=True, stable=True)[:max_blocks]
    return torch.zeros_like(weights).index_fill(0, first, 1.0 / len(first))


def limit_pixel_weights(
    weights: Float[Tensor, "blocks height width"], block_limits: Float[Tensor, "blocks"]
) -> Float[Tensor, "blocks height width"]:
    """Return per-pixel weights scaled by a limit per block, normalized to sum to one in every pixel.

    A block that enters or leaves because of `keep_top_k` thus does so at weight zero in every pixel.
    """
    weights = weights * block_limits[:, None, None]
    total = weights.sum(0)
    # A pixel where only blocks with limit 0 have weight takes the limits of the others as weights.
    return torch.where(
        total > 0.0, weights / total.clamp_min(1e-30), (block_limits / block_limits.sum())[:, None, None]
    )


def is_negligible(distance: float, nearer: Sequence[tuple[float, float]], power: float) -> bool:
    """Return whether a block at a distance has a weight below `MIN_WEIGHT`, given (distance, weight) of nearer blocks.

    Exact for `inverse_distance_2d`: `keep_top_k` drops such a block at any selection weight, so it need not be scored.

    >>> is_negligible(10.0, [(1.0, 1.0)], power=4.0), is_negligible(2.0, [(1.0, 1.0)], power=4.0)
    (True, False)
    """
    if max((weight for _, weight in nearer), default=0.0) < FALLBACK_THRESHOLD:
        return False
    logits = [math.log(weight) - power * math.log(max(at, NEAR_ORIGIN)) for at, weight in nearer if weight > 0.0]
    # The largest term alone bounds the sum from below, and cannot overflow.
    return max(logits) + power * math.log(max(distance, NEAR_ORIGIN)) > -math.log(MIN_WEIGHT)


def blend(images: Sequence[Tensor], weights: Sequence[Float[Tensor, "height width"]]) -> Tensor:
    """Return the sum of images of one shape, each pixel times its weight."""
    total = torch.zeros_like(images[0])
    for image, weight in zip(images, weights, strict=True):
        total = total + (weight if image.ndim == weight.ndim else weight[..., None]) * image
    return total
