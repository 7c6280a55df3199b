"""Appearance matching: codes that give all blocks the same appearance (Tancik et al. 2022, section 4.3.3).

Codes of different blocks are not comparable. Starting from a block with a known code, the code of each neighbor is
optimized to reproduce the colors of its matched neighbors in shared views, with all weights frozen; this repeats
breadth-first until every reachable block has a code. Where the shared views leave a code open, it stays near the
block's own code of that appearance, as far as the spread of its trained codes says.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.city.appearance import exposure_for_block, prior_for_block
from blocknerf.city.overlaps import BlockOverlap, FieldOf, render_colors
from blocknerf.rendering.appearance_fit import cache_rays, optimize_code

STEPS = 80
"""Optimization steps per block; the paper needs fewer than 100."""
INDEPENDENT_ERRORS = 3
"""Number of independent values among the color errors of two blocks in their shared views.

Far fewer than against an image: two fields of the same place differ in geometry, so that whole surfaces are wrong
together, and no code can right that.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedBlock:
    """A block with a matched code."""

    name: str
    code: Float[Tensor, "codes"]
    neighbors: tuple[str, ...]
    """Blocks it was matched to."""


def match_codes(
    overlaps: Sequence[BlockOverlap],
    field_of: FieldOf,
    known_codes: Mapping[str, Tensor],
    initial_codes: Callable[[str], Sequence[Tensor]],
    exposure: float | None,
    *,
    steps: int = STEPS,
) -> Iterator[MatchedBlock]:
    """Yield the codes of all blocks reachable from the blocks with known codes, in the order of matching.

    Args:
        overlaps: Edges of the block graph.
        field_of: Returns the field of a block; its weights do not change.
        known_codes: Fixed codes to start from, by block.
        initial_codes: Returns candidate initial codes of a block; the optimization starts from the best one.
        exposure: Exposure of the comparison, in the capture's unit; None takes each block's reference exposure.
        steps: Optimization steps per block.
    """
    codes = dict(known_codes)
    for name, edges in matching_order(overlaps, known_codes):
        neighbors = [edge.other(name) for edge in edges]
        targets = [
            render_colors(edge.fit_rays, field_of(neighbor), codes[neighbor], exposure)
            for edge, neighbor in zip(edges, neighbors, strict=True)
        ]
        field = field_of(name)
        cached_rays = cache_rays(
            field, RayBundle.cat([edge.fit_rays.rays for edge in edges]), exposure_for_block(field, exposure)
        )
        # The weights of each overlap sum to one, so that every matched neighbor counts equally.
        weights = torch.cat([edge.fit_rays.weights for edge in edges])
        codes[name] = optimize_code(
            partial(cached_rays.color, field),
            torch.cat(targets),
            prior=prior_for_block(field),
            initial_codes=initial_codes(name),
            around_start=True,
            independent_errors=INDEPENDENT_ERRORS,
            steps=steps,
            ray_weights=weights,
        )
        yield MatchedBlock(name=name, code=codes[name], neighbors=tuple(neighbors))


def matching_order(
    overlaps: Sequence[BlockOverlap], known_codes: Collection[str]
) -> Iterator[tuple[str, tuple[BlockOverlap, ...]]]:
    """Yield blocks in matching order, each with its overlaps with already matched blocks.

    Breadth-first, so that errors accumulate over few steps; at the same depth, the highest shared visibility first.
    """
    matched, frontier = set(known_codes), set(known_codes)
    while frontier:
        visibility: dict[str, float] = {}
        for overlap in overlaps:
            for name in overlap.blocks:
                if name not in matched and overlap.other(name) in matched:
                    visibility[name] = max(visibility.get(name, 0.0), overlap.visibility)
        frontier = set(visibility)
        for name in sorted(frontier, key=lambda name: (-visibility[name], name)):
            yield (
                name,
                tuple(overlap for overlap in overlaps if name in overlap.blocks and overlap.other(name) in matched),
            )
            matched.add(name)


def connected_components(names: Sequence[str], overlaps: Sequence[BlockOverlap]) -> list[tuple[str, ...]]:
    """Return the connected components of the graph, each in the order of `names`."""
    remaining, components = list(names), []
    while remaining:
        distances = hop_counts(overlaps, remaining[0])
        components.append(tuple(name for name in remaining if name in distances))
        remaining = [name for name in remaining if name not in distances]
    return components


def hop_counts(overlaps: Sequence[BlockOverlap], start: str) -> dict[str, int]:
    """Return the number of hops from one block to every block connected with it."""
    distances, frontier = {start: 0}, [start]
    while frontier:
        neighbors = [overlap.other(name) for name in frontier for overlap in overlaps if name in overlap.blocks]
        frontier = [name for name in dict.fromkeys(neighbors) if name not in distances]
        distances |= dict.fromkeys(frontier, 1 + max(distances.values()))
    return distances


def graph_center(component: Sequence[str], overlaps: Sequence[BlockOverlap], frames: Mapping[str, int]) -> str:
    """Return the block to start from: the one with the smallest maximum hop count, so that errors accumulate least.

    Args:
        component: Connected blocks.
        overlaps: Edges of the graph.
        frames: Number of images with the reference appearance that train each block; blocks without such images
            are taken only if no block has one.
    """
    candidates = [name for name in component if frames.get(name, 0) > 0] or list(component)
    return min(candidates, key=lambda name: (max(hop_counts(overlaps, name).values()), -frames.get(name, 0), name))
