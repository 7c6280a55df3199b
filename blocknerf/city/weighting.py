"""Blend weights of blocks: the five rules compared in the paper (Tancik et al. 2022, section 5.3), or a function.

`nearest`, `inverse_distance_2d` and `visibility_image` return one weight per block;
`inverse_distance_3d` and `visibility_pixel` return one per block and pixel. Horizontal inverse distance is the
default: the visibility rules score higher on single images but flicker in motion.
"""

from collections.abc import Callable, Mapping
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
    """Return the rule of a name, or a function as a rule.

    Raises:
        RunError: the name does not exist.
    """
    if callable(weighting):
        return _rule_of_function(weighting)
    return WEIGHTING_RULES[one_of(weighting, WEIGHTINGS, "city: weighting")]


def blend_weights(
    weighting: str | WeightingFunction, inputs: BlendInputs, power: float
) -> Float[Tensor, "blocks *pixels"]:
    """Return the weight of each block, or of each block and pixel; weights sum to one over blocks.

    `nearest` switches abruptly and is for comparison only; all other rules are continuous in their inputs.

    Raises:
        RunError: the rule does not exist, or a function returned something else than scores.
    """
    return weighting_rule(weighting).weights(inputs, power)


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
