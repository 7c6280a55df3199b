"""Overlaps of two blocks: small views visible to both of them, in which their colors can be compared."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.city.appearance import exposure_for_block
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.disc_index import overlapping_discs
from blocknerf.rendering.appearance_fit import cache_rays
from blocknerf.rendering.image import ProposalRendering, render_proposals
from blocknerf.rendering.protocol import Field

VIEW_SIDE = 40
"""Longest side of a view in pixels.

The difference between blocks is one of tone, not of fine detail: the cones of such large pixels blur the detail that
only one block has learned. Pose refinement moves blocks apart by far less than such a pixel, too.
"""

CANDIDATES = 16
"""Views with a proposal rendering, evenly spaced over the cameras nearest to the center of an overlap."""

VIEWS = 4
"""Number of the best views to fit codes in, and of as many others to evaluate the result in."""

CANDIDATE_STRIDE = 4
"""The candidates are spread over the nearest `CANDIDATES * CANDIDATE_STRIDE` cameras."""

MIN_SHARED_VISIBILITY = 0.02
"""Mean product of both blocks' visibilities below which a view is not shared."""

TILE_SIDE = 8
"""Side of the tiles, in pixels of a view, over which colors are averaged before they are compared."""

OVERLAP = 0.99
"""Adjacent blocks are less than this fraction of the sum of their radii apart."""

FieldOf = Callable[[str], Field]
"""Returns the field of a block by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRays:
    """Rays along which two blocks can be compared."""

    rays: RayBundle
    weights: Float[Tensor, "rays"]
    """Confidence that both blocks show the same; sums to one."""
    tile_index: Int[Tensor, "rays"]
    """Tile of each ray, numbered from 0 over all views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOverlap:
    """Two overlapping blocks: an edge of the block graph."""

    blocks: tuple[str, str]
    visibility: float
    """0..1: product of both blocks' visibilities, mean over the views."""
    fit_rays: SharedRays
    """Rays to fit codes with."""
    eval_rays: SharedRays
    """Rays to evaluate the result with, of other views."""

    def other(self, name: str) -> str:
        """Return the other block of the overlap."""
        return self.blocks[1] if name == self.blocks[0] else self.blocks[0]


def adjacent_blocks(blocks: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Yield the pairs of adjacent blocks: their discs overlap, and no third block is between them.

    A block is between two others if it overlaps both and its origin is inside the circle with the line between their
    origins as diameter: it has the largest weight where the two overlap.
    """
    origins, radii = np.array([block.origin[:2] for block in blocks]), np.array([block.radius for block in blocks])
    for i, (others, distances) in enumerate(overlapping_discs(blocks)):
        # In an evenly spaced row, a block just touches the next but one.
        others = others[distances < OVERLAP * (radii[i] + radii[others])]
        # From each of the other blocks to each of them, and to the first block.
        offsets = origins[others] - origins[others, None]
        overlap = np.linalg.norm(offsets, axis=-1) < OVERLAP * (radii[others, None] + radii[others])
        opposite = (offsets * (origins[i] - origins[others])[:, None]).sum(-1) < 0.0
        for j in others[~(overlap & opposite).any(0) & (others > i)]:
            yield blocks[i], blocks[j]


def find_overlaps(
    pairs: Iterable[tuple[Block, Block]], cameras: Mapping[str, Cameras], field_of: FieldOf
) -> list[BlockOverlap]:
    """Return the edges of the block graph: the pairs with views that both blocks see.

    Args:
        pairs: Adjacent blocks, all trained.
        cameras: The training cameras of each block, by name, on the device of the fields.
        field_of: Returns the field of a block.
    """
    overlaps = []
    for first, second in pairs:
        training_cameras = _unique(Cameras.cat([cameras[first.name], cameras[second.name]]))
        views = candidate_views(overlap_center(first, second), training_cameras)
        overlap = find_overlap(first, second, views, field_of)
        if overlap is not None:
            overlaps.append(overlap)
    return overlaps


def overlap_center(first: Block, second: Block) -> tuple[float, float]:
    """Return the xy-position of the middle of the overlap of two discs on the line between their origins.

    >>> a = Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0)
    >>> overlap_center(a, Block(name="b", origin=(12.0, 0.0, 0.0), radius=4.0))
    (9.0, 0.0)
    """
    distance = math.dist(first.origin[:2], second.origin[:2])
    if distance == 0.0:
        return first.origin[:2]
    low, high = max(-first.radius, distance - second.radius), min(first.radius, distance + second.radius)
    fraction = 0.5 * (low + high) / distance
    x, y = (a + fraction * (b - a) for a, b in zip(first.origin[:2], second.origin[:2], strict=True))
    return x, y


def candidate_views(point: tuple[float, float], cameras: Cameras) -> Cameras:
    """Return small views from cameras near a point in the xy-plane, evenly spaced over the nearest ones."""
    distances = (cameras.centers[:, :2] - cameras.centers.new_tensor(point)).norm(dim=-1)
    nearest = distances.argsort(stable=True)[: CANDIDATES * CANDIDATE_STRIDE]
    count = min(CANDIDATES, len(nearest))
    indices = torch.linspace(0, len(nearest) - 1, count, device=nearest.device).round().long()
    views = cameras[nearest[indices]]
    longest = torch.maximum(views.width, views.height).max()
    return views.scaled(min(1.0, VIEW_SIDE / int(longest)))


def find_overlap(first: Block, second: Block, views: Cameras, field_of: FieldOf) -> BlockOverlap | None:
    """Return the overlap of two blocks in the best of some views; None if no view is shared."""
    proposals = [_render_proposals(field_of(block.name), views) for block in (first, second)]
    pairs = list(zip(*proposals, strict=True))
    rays = [_shared_rays(views, i, *pair) for i, pair in enumerate(pairs)]
    shared = [float((a.visibility * b.visibility).mean()) for a, b in pairs]
    ranked = sorted(range(len(views)), key=shared.__getitem__, reverse=True)
    best = [i for i in ranked[: 2 * VIEWS] if shared[i] > MIN_SHARED_VISIBILITY]
    if not best:
        return None
    # Every other one, so that both sets are equally good; a single view serves for both.
    fit_views, eval_views = best[::2], best[1::2] or best
    return BlockOverlap(
        blocks=(first.name, second.name),
        visibility=sum(shared[i] for i in best) / len(best),
        fit_rays=_join([rays[i] for i in fit_views]),
        eval_rays=_join([rays[i] for i in eval_views]),
    )


@torch.no_grad()
def color_difference(
    overlap: BlockOverlap,
    field_of: FieldOf,
    codes: Mapping[str, Tensor],
    exposure: float | None,
    *,
    average_tiles: bool = True,
) -> float:
    """Return the mean absolute color difference, 0..1, of two blocks in the evaluation views of their overlap.

    Colors are averaged over tiles first: most of the difference of single pixels is detail that one block knows better
    than the other, which no code can fix. `average_tiles=False` compares single pixels.
    """
    first, second = (render_colors(overlap.eval_rays, field_of(name), codes[name], exposure) for name in overlap.blocks)
    differences = overlap.eval_rays.weights[:, None] * (first - second)
    if average_tiles:
        tiles = differences.new_zeros(int(overlap.eval_rays.tile_index.max()) + 1, 3)
        differences = tiles.index_add_(0, overlap.eval_rays.tile_index, differences)
    return float(differences.abs().sum() / 3.0)


@torch.no_grad()
def render_colors(
    shared_rays: SharedRays, field: Field, code: Float[Tensor, "codes"], exposure: float | None
) -> Float[Tensor, "rays 3"]:
    """Render the colors of a block along shared rays."""
    cached_rays = cache_rays(field, shared_rays.rays, exposure_for_block(field, exposure))
    return cached_rays.color(field, code.to(shared_rays.weights.device))


def _unique(cameras: Cameras) -> Cameras:
    """Return the cameras without duplicates; most images in an overlap train both blocks."""
    poses = [tuple(pose) for pose in cameras.camera_to_world.flatten(1).tolist()]
    first = {pose: i for i, pose in reversed(list(enumerate(poses)))}
    return cameras[torch.tensor(sorted(first.values()), device=cameras.model.device)]


def _render_proposals(field: Field, views: Cameras) -> list[ProposalRendering]:
    return [render_proposals(field, views, i) for i in range(len(views))]


def _shared_rays(views: Cameras, index: int, first: ProposalRendering, second: ProposalRendering) -> SharedRays:
    """Return the rays of one view, with large weights where both blocks see a surface or both see sky."""
    both_see = first.visibility * second.visibility
    both_sky = (1.0 - first.opacity) * (1.0 - second.opacity)
    rows, columns = (torch.arange(side, device=both_see.device) // TILE_SIDE for side in both_see.shape)
    tiles = rows[:, None] * (columns[-1] + 1) + columns
    return SharedRays(
        rays=views.generate_rays(index).flatten(), weights=(both_see + both_sky).flatten(), tile_index=tiles.flatten()
    )


def _join(views: Sequence[SharedRays]) -> SharedRays:
    weights = torch.cat([view.weights for view in views])
    starts = [0, *itertools.accumulate(int(view.tile_index.max()) + 1 for view in views)]
    return SharedRays(
        rays=RayBundle.cat([view.rays for view in views]),
        weights=weights / weights.sum(),
        tile_index=torch.cat([view.tile_index + start for view, start in zip(views, starts, strict=False)]),
    )
