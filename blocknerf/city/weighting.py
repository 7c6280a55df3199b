"""Blending of block renderings: weights, limits on the number of blocks, the fallback block, and the weighted sum.

The weighting rules are the five that the paper compares (Tancik et al. 2022, section 5.3), or a function. `nearest`,
`inverse_distance_2d` and `visibility_image` return one weight per block; `inverse_distance_3d` and `visibility_pixel`
return one per block and pixel. Horizontal inverse distance is the default: the visibility rules score higher on single
images but flicker in motion.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.errors import RunError, one_of

NEAR_ORIGIN = 1e-9
"""Distances are clamped to this minimum, in world units, so that a camera on an origin has finite weights."""

MIN_PIXEL_VISIBILITY = 0.05
"""Minimum visibility of each pixel, as a fraction of the block's mean visibility.

The sky and regions that no training camera saw are thus weighted by the mean and not by noise around zero. The value
is small, so that surfaces that some camera saw keep their own visibility.
"""

MIN_WEIGHT = 1.0 / 512.0
"""Blend weights below this are dropped: they change a pixel by at most half a gray level."""

FALLBACK_THRESHOLD = 0.05
"""The nearest block fades in as fallback where no block's selection weight exceeds this.

A block's weight exceeds it except in the outermost 3.4 % of its selection radius (`selection.RANGE_FADE`), so the
fallback acts only where a camera is about to leave all blocks, or where none predicts visibility.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendInputs:
    """Inputs of the weighting rules: some blocks and one camera."""

    distances: Float[Tensor, "blocks"]
    """Horizontal distance from the camera to each block's origin, in world units."""
    selection_weights: Float[Tensor, "blocks"]
    """0..1, from range and visibility; at least one is above 0."""
    origins: Float[Tensor, "blocks 3"]
    rays: RayBundle
    """Rays of the pixels, at the resolution of `visibility` and `depth`."""
    visibility: Float[Tensor, "blocks height width"] | None = None
    """Predicted visibility of each pixel's surface; only the visibility rules need it."""
    depth: Float[Tensor, "blocks height width"] | None = None
    """Expected depth along each pixel's ray, in world units; only `inverse_distance_3d` needs it."""


WeightingFunction = Callable[[BlendInputs], Tensor]
"""A custom weighting: returns a score of at least 0 for each block, `[blocks]` or `[blocks, height, width]`.

Scores are multiplied by the selection weights, so that blocks fade in and out, and normalized over the blocks. Where
all scores are zero, the selection weights decide. The function gets visibility and depth; it is called at low
resolution to select blocks and again at full resolution. Both are zero for blocks that were not evaluated.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightingRule:
    """A weighting, and what it needs."""

    weights: Callable[[BlendInputs, float], Tensor]
    """Returns the weights from the inputs and the power."""
    per_pixel: bool = False
    """Whether each pixel has its own weights."""
    horizontal: bool = False
    """Whether only the camera's horizontal position matters."""
    needs_visibility: bool = False
    """Whether a per-pixel rule reads the visibility of each pixel."""


def weighting_rule(weighting: str | WeightingFunction) -> WeightingRule:
    """Return the rule of a name, or a function as a rule; weights sum to one over blocks.

    `nearest` switches abruptly and is for comparison only; all other rules are continuous in their inputs.

    Raises:
        RunError: the name does not exist.
    """
    if callable(weighting):
        return _rule_of_function(weighting)
    return WEIGHTING_RULES[one_of(weighting, WEIGHTINGS, "city: weighting")]


def inverse_distance_weights(
    distances: Float[Tensor, "blocks *pixels"], selection_weights: Float[Tensor, "blocks"], power: float
) -> Float[Tensor, "blocks *pixels"]:
    """Return weights proportional to selection_weight * distance ** -power (Tancik et al. 2022, section 4.3.2).

    >>> inverse_distance_weights(torch.tensor([1.0, 3.0]), torch.ones(2), power=1.0)
    tensor([0.7500, 0.2500])
    """
    # In log space: distance ** -power overflows at an origin, the difference of logarithms does not.
    return (_broadcast(selection_weights.log(), distances) - power * distances.clamp_min(NEAR_ORIGIN).log()).softmax(0)


def visibility_weights(
    visibility: Float[Tensor, "blocks *pixels"], selection_weights: Float[Tensor, "blocks"]
) -> Float[Tensor, "blocks *pixels"]:
    """Return weights proportional to selection_weight * predicted visibility.

    >>> visibility_weights(torch.tensor([0.9, 0.3]), torch.ones(2))
    tensor([0.7500, 0.2500])
    """
    floor = (MIN_PIXEL_VISIBILITY * visibility.reshape(len(visibility), -1).mean(1)).clamp_min(NEAR_ORIGIN)
    weights = _broadcast(selection_weights, visibility) * torch.maximum(visibility, _broadcast(floor, visibility))
    return weights / weights.sum(0)


def _nearest(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks"]:
    weights = torch.zeros_like(inputs.distances)
    weights[torch.where(inputs.selection_weights > 0.0, inputs.distances, torch.inf).argmin()] = 1.0
    return weights


def _inverse_distance_2d(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks"]:
    return inverse_distance_weights(inputs.distances, inputs.selection_weights, power)


def _inverse_distance_3d(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks height width"]:
    return inverse_distance_weights(_surface_distances(inputs, power), inputs.selection_weights, power)


def _visibility_pixel(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks height width"]:
    assert inputs.visibility is not None
    return visibility_weights(inputs.visibility, inputs.selection_weights)


def _visibility_image(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks"]:
    assert inputs.visibility is not None
    return visibility_weights(inputs.visibility.flatten(1).mean(1), inputs.selection_weights)


WEIGHTING_RULES: Mapping[Weighting, WeightingRule] = {
    "nearest": WeightingRule(weights=_nearest, horizontal=True),
    "inverse_distance_2d": WeightingRule(weights=_inverse_distance_2d, horizontal=True),
    "inverse_distance_3d": WeightingRule(weights=_inverse_distance_3d, per_pixel=True),
    "visibility_pixel": WeightingRule(weights=_visibility_pixel, per_pixel=True, needs_visibility=True),
    "visibility_image": WeightingRule(weights=_visibility_image),
}
"""The rules by name."""


def _rule_of_function(function: WeightingFunction) -> WeightingRule:
    """Return a custom weighting as a rule, which checks and normalizes the scores."""

    def weights(inputs: BlendInputs, power: float) -> Tensor:
        scores = function(inputs)
        blocks, pixels = len(inputs.distances), tuple(inputs.rays.pixel_radii.shape)
        name = getattr(function, "__name__", "weighting")
        if not isinstance(scores, Tensor) or tuple(scores.shape) not in ((blocks,), (blocks, *pixels)):
            raise RunError(f"weighting {name}: return one score per block ({blocks}), or per block and pixel {pixels}")
        if not bool((scores >= 0.0).all() & scores.isfinite().all()):
            raise RunError(f"weighting {name}: scores must be finite and not negative")
        presence = _broadcast(inputs.selection_weights, scores)
        weighted = presence * scores.to(presence)
        weighted = torch.where(weighted.sum(0) > 0.0, weighted, presence)
        return weighted / weighted.sum(0)

    return WeightingRule(weights=weights, per_pixel=True, needs_visibility=True)


def _surface_distances(inputs: BlendInputs, power: float) -> Float[Tensor, "blocks height width"]:
    """Return the distance from each pixel's surface point to each block's origin.

    All blocks share one surface point: the expected depth, blended with horizontal inverse distance weights. The
    nearest block's depth would jump where another block becomes the nearest, and each block's own depth would favor
    blocks with floaters around their origin.
    """
    assert inputs.depth is not None
    horizontal_weights = inverse_distance_weights(inputs.distances, inputs.selection_weights, power)
    depth = (_broadcast(horizontal_weights, inputs.depth) * inputs.depth).sum(0)
    points = inputs.rays.origins + depth[..., None] * inputs.rays.directions
    return (points - inputs.origins[:, None, None]).norm(dim=-1)


def _broadcast(values: Float[Tensor, "blocks"], images: Float[Tensor, "blocks *pixels"]) -> Tensor:
    """Return values with as many axes as images."""
    return values.view(-1, *[1] * (images.ndim - 1))


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
