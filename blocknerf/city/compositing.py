"""How the pictures of several blocks become one."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.city.manifest import Weighting

MIN_WEIGHT = 1.0 / 512.0
"""Shares of a picture smaller than this are half a gray level at most: they cannot be seen and are not rendered."""

NEAR_ORIGIN = 1e-9
"""Distances below this, in world units, count as it, so that a camera on an origin has finite weights."""

SCARCE = 0.05
"""Where no block is more present than this, the nearest begins to stand in, smoothly."""


def block_weights(
    distances: Float[Tensor, "blocks"],
    presence: Float[Tensor, "blocks"],
    nearest: int,
    *,
    weighting: Weighting,
    power: float,
    max_blocks: int,
) -> Float[Tensor, "blocks"]:
    """The share of each block in a picture; shares sum to one and at most `max_blocks` are above zero.

    Inverse distance is the paper's (Tancik et al. 2022, section 4.3.2): distance ** -power. On top of it, a
    block enters and leaves the blend through zero, because weights change smoothly with `presence` and with
    the distance of the strongest block that finds no room. Where hardly any block is present the nearest
    takes over. `nearest` weighting switches hard; it is for comparison.

    Args:
        distances: From the camera to each block's origin, in plan, in world units.
        presence: 0..1, from selection radius and visibility.
        nearest: Which of them is the fallback.
        weighting: The rule.
        power: Exponent of the inverse distance.
        max_blocks: How many may be rendered at most.

    >>> distances = torch.tensor([1.0, 3.0])
    >>> block_weights(distances, torch.ones(2), 0, weighting="inverse_distance_2d", power=1.0, max_blocks=3)
    tensor([0.7510, 0.2490])
    """
    alone = torch.zeros_like(distances)
    alone[nearest] = 1.0
    present = presence > 0.0
    if not present.any():
        return alone
    if weighting == "nearest":
        shares = torch.zeros_like(distances)
        shares[torch.where(present, distances, torch.inf).argmin()] = 1.0
    else:
        # In log space: at an origin distance ** -power overflows, the difference of logarithms does not.
        shares = (presence.log() - power * distances.clamp_min(NEAR_ORIGIN).log()).softmax(0)
    trust = (presence.max() / SCARCE).clamp(max=1.0)
    return limit_blocks(trust * shares + (1.0 - trust) * alone, max_blocks)


def is_outweighed(distance: float, nearer: Sequence[tuple[float, float]], power: float) -> bool:
    """Whether a block at that distance has no visible share, given the distance and presence of nearer ones.

    Exact: `block_weights` gives such a block zero however present it is, so it need not even be looked at.

    >>> is_outweighed(10.0, [(1.0, 1.0)], power=4.0), is_outweighed(2.0, [(1.0, 1.0)], power=4.0)
    (True, False)
    """
    if max((presence for _, presence in nearer), default=0.0) < SCARCE:
        return False
    logits = [math.log(presence) - power * math.log(max(at, NEAR_ORIGIN)) for at, presence in nearer if presence > 0.0]
    # The largest term alone bounds the sum from below, and cannot overflow.
    return max(logits) + power * math.log(max(distance, NEAR_ORIGIN)) > -math.log(MIN_WEIGHT)


def limit_blocks(shares: Float[Tensor, "blocks"], max_blocks: int) -> Float[Tensor, "blocks"]:
    """Shares with at most `max_blocks` above zero, summing to one.

    The largest share that finds no room is taken off all, so that a block which changes place with it does so
    at zero. Shares too small to be seen count as without room.
    """
    ranked = shares.sort(descending=True).values
    floor = ranked[max_blocks] if len(shares) > max_blocks else ranked.new_zeros(())
    left = (shares - floor.clamp_min(MIN_WEIGHT)).clamp_min(0.0)
    if left.sum() > 0.0:
        return left / left.sum()
    # An exact tie with the one that finds no room: any choice is as good, the first stay.
    first = shares.argsort(descending=True, stable=True)[:max_blocks]
    return torch.zeros_like(shares).index_fill(0, first, 1.0 / len(first))


def blend(images: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of images of one shape."""
    total = torch.zeros_like(images[0])
    for image, weight in zip(images, weights, strict=True):
        total = total + weight * image
    return total
