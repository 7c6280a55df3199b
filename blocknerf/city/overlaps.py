"""Where two blocks meet: small views that both of them have seen well, in which their colors can be compared."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.city.appearance import exposure_for_block
from blocknerf.partition.block import Block
from blocknerf.rendering.appearance_fit import cache_rays
from blocknerf.rendering.image import ProposalRendering, render_proposals
from blocknerf.rendering.protocol import Field

VIEW_SIDE = 40
"""Longest side of a view in pixels.

A seam is a difference in tone, not in leaves, and the cones of so large pixels blur what two blocks know differently
well. Poses that blocks refined apart differ by far less than such a pixel, too.
"""

CANDIDATES = 16
"""Views that are glanced at, spread over the cameras nearest to where two blocks meet."""

VIEWS = 4
"""Of these, the best to fit codes in, and as many others to judge the result in."""

CANDIDATE_STRIDE = 4
"""Cameras that candidates are spread over, in units of their number."""

MIN_SHARED_VISIBILITY = 0.02
"""Mean visibility, both blocks' together, below which two blocks show nothing in common."""

TILE_SIDE = 8
"""Side of the tiles of a view, in its pixels, over which colors are averaged before they are compared."""

FieldOf = Callable[[str], Field]
"""Gives the field of a block by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRays:
    """Rays along which two blocks can be compared."""

    rays: RayBundle
    weights: Float[Tensor, "rays"]
    """How sure it is that both show the same; they sum to one."""
    tile_average: Int[Tensor, "rays"]
    """Which tile of which view each ray is of, counted from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOverlap:
    """An edge of the graph of blocks."""

    blocks: tuple[str, str]
    visibility: float
    """How well both see the views, 0..1: mean over them of the product of what each sees."""
    fit_rays: SharedRays
    """To fit codes in."""
    eval_rays: SharedRays
    """To judge the result in: other views."""

    def other(self, name: str) -> str:
        """The block across the seam."""
        return self.blocks[1] if name == self.blocks[0] else self.blocks[0]


def adjacent_blocks(blocks: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Pairs of blocks that hand over to each other: their discs share ground, and none stands between them.

    A block stands between two others where it overlaps both and sees their origins in opposite directions, that is
    in the circle through them: it has the say where they meet.
    """
    for i, first in enumerate(blocks):
        for second in blocks[i + 1 :]:
            others = (block for block in blocks if block is not first and block is not second)
            if _overlap(first, second) and not any(_between(block, first, second) for block in others):
                yield first, second


def find_overlaps(
    pairs: Iterable[tuple[Block, Block]], cameras: Mapping[str, Cameras], field_of: FieldOf
) -> list[BlockOverlap]:
    """The edges of the graph of blocks: of the pairs that meet, those with views that both blocks see.

    Args:
        pairs: Blocks that meet, all trained.
        cameras: The training cameras of each, by name, where the fields lie.
        field_of: Gives their fields.
    """
    found = []
    for first, second in pairs:
        stands = _once(Cameras.cat([cameras[first.name], cameras[second.name]]))
        seam = find_overlap(first, second, candidate_views(overlap_center(first, second), stands), field_of)
        if seam is not None:
            found.append(seam)
    return found


def overlap_center(first: Block, second: Block) -> tuple[float, float]:
    """In plan, the middle of what two overlapping discs share of the line between their origins.

    >>> a = Block(name="a", origin=(0.0, 0.0, 0.0), radius=10.0)
    >>> overlap_center(a, Block(name="b", origin=(12.0, 0.0, 0.0), radius=4.0))
    (9.0, 0.0)
    """
    apart = math.dist(first.origin[:2], second.origin[:2])
    if apart == 0.0:
        return first.origin[:2]
    low, high = max(-first.radius, apart - second.radius), min(first.radius, apart + second.radius)
    share = 0.5 * (low + high) / apart
    x, y = (a + share * (b - a) for a, b in zip(first.origin[:2], second.origin[:2], strict=True))
    return x, y


def candidate_views(point: tuple[float, float], cameras: Cameras) -> Cameras:
    """Small views from the cameras nearest to a point in plan, spread over several times as many."""
    distances = (cameras.centers[:, :2] - cameras.centers.new_tensor(point)).norm(dim=-1)
    nearest = distances.argsort(stable=True)[: CANDIDATES * CANDIDATE_STRIDE]
    count = min(CANDIDATES, len(nearest))
    places = torch.linspace(0, len(nearest) - 1, count, device=nearest.device).round().long()
    chosen = cameras[nearest[places]]
    longest = torch.maximum(chosen.width, chosen.height).max()
    return chosen.scaled(min(1.0, VIEW_SIDE / int(longest)))


def find_overlap(first: Block, second: Block, views: Cameras, field_of: FieldOf) -> BlockOverlap | None:
    """The seam between two blocks in the best of some views; None where no view shows anything in common."""
    glances = [_render_proposals(field_of(block.name), views) for block in (first, second)]
    found = [_compare(views, i, mine, theirs) for i, (mine, theirs) in enumerate(zip(*glances, strict=True))]
    shared = [float((mine.visibility * theirs.visibility).mean()) for mine, theirs in zip(*glances, strict=True)]
    ranked = sorted(range(len(views)), key=shared.__getitem__, reverse=True)
    best = [i for i in ranked[: 2 * VIEWS] if shared[i] > MIN_SHARED_VISIBILITY]
    if not best:
        return None
    # Every other one, so that both kinds are equally good; a single view has to serve for both.
    fitted, judged = best[::2], best[1::2] or best
    return BlockOverlap(
        blocks=(first.name, second.name),
        visibility=sum(shared[i] for i in best) / len(best),
        fit_rays=_together([found[i] for i in fitted]),
        eval_rays=_together([found[i] for i in judged]),
    )


@torch.no_grad()
def color_difference(
    seam: BlockOverlap,
    field_of: FieldOf,
    codes: Mapping[str, Tensor],
    exposure: float | None,
    *,
    tones: bool = True,
) -> float:
    """Mean absolute difference, 0..1, of the colors that the two blocks of a seam show in its judged views.

    Of tones, that is of tiles of the views: what is left of pixels is leaves that one block knows better than the
    other, which no code can mend. `tones=False` compares single pixels all the same.
    """
    mine, theirs = (render_colors(seam.eval_rays, field_of(name), codes[name], exposure) for name in seam.blocks)
    gaps = seam.eval_rays.weights[:, None] * (mine - theirs)
    if tones:
        tiles = gaps.new_zeros(int(seam.eval_rays.tile_average.max()) + 1, 3)
        gaps = tiles.index_add_(0, seam.eval_rays.tile_average, gaps)
    return float(gaps.abs().sum() / 3.0)


@torch.no_grad()
def render_colors(
    comparison: SharedRays, field: Field, code: Float[Tensor, "codes"], exposure: float | None
) -> Float[Tensor, "rays 3"]:
    """What a block shows along the rays of a comparison."""
    frozen = cache_rays(field, comparison.rays, exposure_for_block(field, exposure))
    return frozen.color(field, code.to(comparison.weights.device))


def _once(cameras: Cameras) -> Cameras:
    """Without repetitions: most photographs where two blocks meet train both of them."""
    poses = [tuple(pose) for pose in cameras.camera_to_world.flatten(1).tolist()]
    first = {pose: i for i, pose in reversed(list(enumerate(poses)))}
    return cameras[torch.tensor(sorted(first.values()), device=cameras.model.device)]


def _overlap(first: Block, second: Block) -> bool:
    apart = math.dist(first.origin[:2], second.origin[:2])
    # Every other block of an even row just touches.
    return apart < 0.99 * (first.radius + second.radius)


def _between(block: Block, first: Block, second: Block) -> bool:
    to_first, to_second = (
        (other.origin[0] - block.origin[0], other.origin[1] - block.origin[1]) for other in (first, second)
    )
    opposite = to_first[0] * to_second[0] + to_first[1] * to_second[1] < 0.0
    return opposite and _overlap(block, first) and _overlap(block, second)


def _render_proposals(field: Field, views: Cameras) -> list[ProposalRendering]:
    return [render_proposals(field, views, i) for i in range(len(views))]


def _compare(views: Cameras, index: int, mine: ProposalRendering, theirs: ProposalRendering) -> SharedRays:
    """One view's rays, those weighing most that both blocks see, or both call sky."""
    seen, sky = mine.visibility * theirs.visibility, (1.0 - mine.opacity) * (1.0 - theirs.opacity)
    rows, columns = (torch.arange(side, device=seen.device) // TILE_SIDE for side in seen.shape)
    tiles = rows[:, None] * (columns[-1] + 1) + columns
    return SharedRays(
        rays=views.generate_rays(index).flatten(), weights=(seen + sky).flatten(), tile_average=tiles.flatten()
    )


def _together(views: Sequence[SharedRays]) -> SharedRays:
    weights = torch.cat([view.weights for view in views])
    starts = [0, *itertools.accumulate(int(view.tile_average.max()) + 1 for view in views)]
    return SharedRays(
        rays=RayBundle.cat([view.rays for view in views]),
        weights=weights / weights.sum(),
        tile_average=torch.cat([view.tile_average + start for view, start in zip(views, starts, strict=False)]),
    )
