"""The five rules by which blocks share a picture, those of the paper's comparison (Tancik et al. 2022, section 5.3).

`nearest`, `inverse_distance_2d` and `visibility_image` give each block a share of the whole picture;
`inverse_distance_3d` and `visibility_pixel` give it one of every pixel. Inverse distance in plan is the default: the
rules by visibility score higher on single pictures and flicker in motion.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.city.manifest import WEIGHTINGS, Weighting
from blocknerf.errors import one_of

PIXEL_WEIGHTINGS: tuple[Weighting, ...] = ("inverse_distance_3d", "visibility_pixel")
"""Rules that weigh each pixel on its own."""

HORIZONTAL_WEIGHTINGS: tuple[Weighting, ...] = ("nearest", "inverse_distance_2d")
"""Rules that look at nothing but where the camera stands in plan."""

NEAR_ORIGIN = 1e-9
"""Distances below this, in world units, count as it, so that a camera on an origin has finite weights."""

MIN_PIXEL_VISIBILITY = 0.05
"""Share of a block's visibility over the picture that each of its pixels has at least.

The sky, and what no training camera saw, are then weighed by the whole picture and not by noise around zero.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendInputs:
    """What the rules look at: some blocks, as one camera meets them."""

    distances: Float[Tensor, "blocks"]
    """From the camera to each block's origin, in plan, in world units."""
    selection_weights: Float[Tensor, "blocks"]
    """0..1, from selection radius and visibility; at least one is above 0."""
    origins: Float[Tensor, "blocks 3"]
    rays: RayBundle
    """Of the picture's pixels, at the resolution of the next two."""
    visibility: Float[Tensor, "blocks height width"] | None = None
    """Predicted of what each pixel shows; only the visibility rules need it."""
    depth: Float[Tensor, "blocks height width"] | None = None
    """Along each pixel's ray, in world units; only `inverse_distance_3d` needs it."""


def blend_weights(weighting: Weighting, sights: BlendInputs, power: float) -> Float[Tensor, "blocks *pixels"]:
    """What a rule gives each block of the picture, or of each pixel; shares sum to one.

    `nearest` switches hard and is there for comparison; all others are continuous in everything they look at.

    Raises:
        RunError: there is no such rule.
    """
    one_of(weighting, WEIGHTINGS, "city: weighting")
    if weighting == "nearest":
        return _nearest(sights.distances, sights.selection_weights)
    if weighting == "inverse_distance_2d":
        return inverse_distance_weights(sights.distances, sights.selection_weights, power)
    if weighting == "inverse_distance_3d":
        distances = _seen_distances(sights, power)
        return inverse_distance_weights(distances, sights.selection_weights, power)
    assert sights.visibility is not None
    if weighting == "visibility_pixel":
        return visibility_weights(sights.visibility, sights.selection_weights)
    return visibility_weights(sights.visibility.flatten(1).mean(1), sights.selection_weights)


def inverse_distance_weights(
    distances: Float[Tensor, "blocks *pixels"], presence: Float[Tensor, "blocks"], power: float
) -> Float[Tensor, "blocks *pixels"]:
    """Shares in proportion to presence * distance ** -power (Tancik et al. 2022, section 4.3.2).

    >>> inverse_distance_weights(torch.tensor([1.0, 3.0]), torch.ones(2), power=1.0)
    tensor([0.7500, 0.2500])
    """
    # In log space: at an origin distance ** -power overflows, the difference of logarithms does not.
    return (_broadcast(presence.log(), distances) - power * distances.clamp_min(NEAR_ORIGIN).log()).softmax(0)


def visibility_weights(
    visibility: Float[Tensor, "blocks *pixels"], presence: Float[Tensor, "blocks"]
) -> Float[Tensor, "blocks *pixels"]:
    """Shares in proportion to presence * predicted visibility.

    >>> visibility_weights(torch.tensor([0.9, 0.3]), torch.ones(2))
    tensor([0.7500, 0.2500])
    """
    floor = (MIN_PIXEL_VISIBILITY * visibility.reshape(len(visibility), -1).mean(1)).clamp_min(NEAR_ORIGIN)
    weights = _broadcast(presence, visibility) * torch.maximum(visibility, _broadcast(floor, visibility))
    return weights / weights.sum(0)


def _nearest(distances: Float[Tensor, "blocks"], presence: Float[Tensor, "blocks"]) -> Float[Tensor, "blocks"]:
    shares = torch.zeros_like(distances)
    shares[torch.where(presence > 0.0, distances, torch.inf).argmin()] = 1.0
    return shares


def _seen_distances(sights: BlendInputs, power: float) -> Float[Tensor, "blocks height width"]:
    """From the point that each pixel sees to each origin.

    The point is one for all blocks: it lies at their expected depths, blended by inverse distance in plan. Taking the
    nearest block's depth instead would jump where another becomes the nearest, and each block's own would favor
    blocks with something wrong floating about their origin.
    """
    assert sights.depth is not None
    plan = inverse_distance_weights(sights.distances, sights.selection_weights, power)
    depth = (_broadcast(plan, sights.depth) * sights.depth).sum(0)
    points = sights.rays.origins + depth[..., None] * sights.rays.directions
    return (points - sights.origins[:, None, None]).norm(dim=-1)


def _broadcast(numbers: Float[Tensor, "blocks"], images: Float[Tensor, "blocks *pixels"]) -> Tensor:
    """Numbers with as many axes as images."""
    return numbers.view(-1, *[1] * (images.ndim - 1))
