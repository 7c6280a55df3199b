"""How the pictures of several blocks become one: who is in it, who stands in, and the sum."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.weighting import NEAR_ORIGIN

MIN_WEIGHT = 1.0 / 512.0
"""Shares of a picture smaller than this are half a gray level at most: they cannot be seen and are not rendered."""

FALLBACK_THRESHOLD = 0.05
"""Where no block is more present than this, the nearest begins to stand in, smoothly."""


def fallback_confidence(presence: Float[Tensor, "blocks"]) -> float:
    """1, falling to 0 where hardly any block is present.

    >>> fallback_confidence(torch.tensor([0.0, 0.7])), round(fallback_confidence(torch.tensor([0.01, 0.0])), 3)
    (1.0, 0.2)
    """
    return min(float(presence.max()) / FALLBACK_THRESHOLD, 1.0)


def blend_with_fallback(
    shares: Float[Tensor, "blocks *pixels"], trust: float, nearest: int
) -> Float[Tensor, "blocks *pixels"]:
    """Shares in which one block, the nearest, takes over what the others are not trusted with."""
    alone = torch.zeros_like(shares)
    alone[nearest] = 1.0
    return torch.lerp(alone, shares, trust)


def keep_top_k(shares: Float[Tensor, "blocks"], max_blocks: int) -> Float[Tensor, "blocks"]:
    """Shares with at most `max_blocks` above zero, summing to one.

    The largest share that finds no room is taken off all, so that a block which changes place with it does so
    at zero. Shares too small to be seen count as without room.

    >>> keep_top_k(torch.tensor([0.75, 0.25]), 3)
    tensor([0.7510, 0.2490])
    """
    ranked = shares.sort(descending=True).values
    floor = ranked[max_blocks] if len(shares) > max_blocks else ranked.new_zeros(())
    left = (shares - floor.clamp_min(MIN_WEIGHT)).clamp_min(0.0)
    if left.sum() > 0.0:
        return left / left.sum()
    # An exact tie with the one that finds no room: any choice is as good, the first stay.
    first = shares.argsort(descending=True, stable=True)[:max_blocks]
    return torch.zeros_like(shares).index_fill(0, first, 1.0 / len(first))


def limit_pixel_weights(
    shares: Float[Tensor, "blocks height width"], admission: Float[Tensor, "blocks"]
) -> Float[Tensor, "blocks height width"]:
    """Shares of pixels scaled by how far each block is let into the picture at all; they sum to one in every pixel.

    A block that a limit on their number keeps out, or just lets in, so leaves every pixel through zero.
    """
    weights = shares * admission[:, None, None]
    total = weights.sum(0)
    # A pixel that only blocks without admission claim is shared by the admission of the others.
    return torch.where(total > 0.0, weights / total.clamp_min(1e-30), (admission / admission.sum())[:, None, None])


def is_negligible(distance: float, nearer: Sequence[tuple[float, float]], power: float) -> bool:
    """Whether a block at that distance has no visible share, given the distance and presence of nearer ones.

    Exact: by inverse distance in plan such a block gets zero however present it is, so it need not be looked at.

    >>> is_negligible(10.0, [(1.0, 1.0)], power=4.0), is_negligible(2.0, [(1.0, 1.0)], power=4.0)
    (True, False)
    """
    if max((presence for _, presence in nearer), default=0.0) < FALLBACK_THRESHOLD:
        return False
    logits = [math.log(presence) - power * math.log(max(at, NEAR_ORIGIN)) for at, presence in nearer if presence > 0.0]
    # The largest term alone bounds the sum from below, and cannot overflow.
    return max(logits) + power * math.log(max(distance, NEAR_ORIGIN)) > -math.log(MIN_WEIGHT)


def blend(images: Sequence[Tensor], weights: Sequence[Float[Tensor, "height width"]]) -> Tensor:
    """The sum of images of one shape, each pixel times its weight."""
    total = torch.zeros_like(images[0])
    for image, weight in zip(images, weights, strict=True):
        total = total + (weight if image.ndim == weight.ndim else weight[..., None]) * image
    return total
