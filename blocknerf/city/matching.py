"""Matching: codes with which blocks that learned apart show one light (Tancik et al. 2022, section 4.3.3).

Codes of different blocks are unrelated numbers. Beginning at one block whose code is given, each neighbor's code is
fitted so that it shows what its matched neighbors show in views that they share, all weights frozen; and so outward.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.city.appearance import exposure_for_block
from blocknerf.city.overlaps import BlockOverlap, FieldOf, render_colors
from blocknerf.rendering.appearance_fit import cache_rays, optimize_cached

STEPS = 80
"""Of the descent for one block; the paper needs fewer than 100."""

CODE_REG = 1e-3
"""Weight that holds a code near its start, where what the shared views leave open stays as the block learned it.

On a street it halves how far codes move and leaves the seams as they are; ten times as much widens them again.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedBlock:
    """A block whose code was found."""

    name: str
    code: Float[Tensor, "codes"]
    neighbors: tuple[str, ...]
    """The blocks it was matched to."""


def match_codes(
    seams: Sequence[BlockOverlap],
    field_of: FieldOf,
    known: Mapping[str, Tensor],
    starts: Callable[[str], Sequence[Tensor]],
    exposure: float | None,
    *,
    steps: int = STEPS,
) -> Iterator[MatchedBlock]:
    """The codes of all blocks that can be reached from those whose code is known, in the order they were found.

    Args:
        seams: The graph of blocks.
        field_of: Gives the field of a block, whose weights do not change.
        known: Codes to begin with, by block; they stay as they are.
        starts: Gives codes from which the search for a block's may begin; the best of them is taken.
        exposure: At which blocks are compared, in the capture's unit; None takes what each was trained around.
        steps: Of the descent for one block.
    """
    codes = dict(known)
    for name, links in matching_order(seams, known):
        others = [link.other(name) for link in links]
        targets = [
            render_colors(link.fit_rays, field_of(other), codes[other], exposure)
            for link, other in zip(links, others, strict=True)
        ]
        field = field_of(name)
        frozen = cache_rays(
            field, RayBundle.cat([link.fit_rays.rays for link in links]), exposure_for_block(field, exposure)
        )
        # Weights of each seam sum to one, so that every matched neighbor counts alike.
        weights = torch.cat([link.fit_rays.weights for link in links])
        codes[name] = optimize_cached(
            field, frozen, torch.cat(targets), starts=starts(name), steps=steps, weights=weights, hold=CODE_REG
        )
        yield MatchedBlock(name=name, code=codes[name], neighbors=tuple(others))


def matching_order(
    seams: Sequence[BlockOverlap], known: Collection[str]
) -> Iterator[tuple[str, tuple[BlockOverlap, ...]]]:
    """Blocks in the order in which they are matched, each with its seams to blocks that are matched by then.

    Breadth first, so that errors add up over as few steps as can be; of the blocks equally far, the best seen first.
    """
    matched, ring = set(known), set(known)
    while ring:
        best: dict[str, float] = {}
        for seam in seams:
            for name in seam.blocks:
                if name not in matched and seam.other(name) in matched:
                    best[name] = max(best.get(name, 0.0), seam.visibility)
        ring = set(best)
        for name in sorted(ring, key=lambda each: (-best[each], each)):
            yield name, tuple(seam for seam in seams if name in seam.blocks and seam.other(name) in matched)
            matched.add(name)


def connected_components(names: Sequence[str], seams: Sequence[BlockOverlap]) -> list[tuple[str, ...]]:
    """The parts of the graph that no seam connects, each in the order of `names`."""
    left, found = list(names), []
    while left:
        reached = hop_counts(seams, left[0])
        found.append(tuple(name for name in left if name in reached))
        left = [name for name in left if name not in reached]
    return found


def hop_counts(seams: Sequence[BlockOverlap], start: str) -> dict[str, int]:
    """The blocks that seams connect with one, and how many seams away they are."""
    found, ring = {start: 0}, [start]
    while ring:
        beyond = [seam.other(name) for name in ring for seam in seams if name in seam.blocks]
        ring = [name for name in dict.fromkeys(beyond) if name not in found]
        found |= dict.fromkeys(ring, 1 + max(found.values()))
    return found


def graph_center(island: Sequence[str], seams: Sequence[BlockOverlap], frames: Mapping[str, int]) -> str:
    """Where to begin: the block from which the others are fewest seams away, so that errors add up least.

    Args:
        island: Connected blocks.
        seams: What connects them.
        frames: How many photographs of the wanted light train each; blocks without are taken only if all are.
    """
    lit = [name for name in island if frames.get(name, 0) > 0] or list(island)
    return min(lit, key=lambda name: (max(hop_counts(seams, name).values()), -frames.get(name, 0), name))
