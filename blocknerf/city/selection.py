"""Select the blocks of a view: those near its camera that predict enough visibility, with their blend weights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.city.cache import BlockCache
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.weighting import (
    BlendInputs,
    WeightingRule,
    blend_with_fallback,
    fallback_confidence,
    is_negligible,
    keep_top_k,
)
from blocknerf.errors import RunError
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.disc_index import octave_trees
from blocknerf.rendering.image import ProposalRendering, render_proposals

Position = tuple[float, float, float]

RANGE_FADE = 0.25
"""Fraction of the selection radius over which a block fades out, so that it does not pop as the camera leaves it."""

VISIBILITY_SIDE = 32
"""Longest side, in pixels, of the rendering over which visibility is averaged; more pixels do not change the mean."""

Reason = Literal["blended", "fallback", "culled", "negligible", "out_of_range", "not_trained"]
"""`blended` and `fallback` blocks are rendered; `fallback` is the nearest block where hardly any other is selected.

`culled` blocks do not see the view, `negligible` ones have no visible weight, the nearest block may be
`out_of_range`, and a `not_trained` block has no field on disk.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInView:
    """A block around a camera, and its part in the view."""

    block: Block
    distance: float
    """Horizontal distance from the camera to the block's origin, in world units."""
    range_weight: float
    """1 well within the selection radius, falling smoothly to 0 at it."""
    selection_weight: float
    """0..1, product of the range and visibility falloffs; 0 for an untrained block."""
    trained: bool = True
    visibility: float | None = None
    """Predicted visibility, mean over the view; None if it was not needed."""
    weight: float = 0.0
    """Mean blend weight; 0 if the block is not rendered."""
    weight_limit: float = 0.0
    """Factor by which the limit on the number of blocks changed the weight (`keep_top_k`)."""

    @property
    def name(self) -> str:
        """Name of the block."""
        return self.block.name

    @property
    def rendered(self) -> bool:
        """Whether the block is rendered."""
        return self.weight > 0.0

    @property
    def reason(self) -> Reason:
        """Why the block is rendered or left out."""
        if not self.trained:
            return "not_trained"
        if self.rendered:
            return "blended" if self.selection_weight > 0.0 else "fallback"
        if self.range_weight == 0.0:
            return "out_of_range"
        return "negligible" if self.selection_weight > 0.0 else "culled"


class BlockIndex:
    """Finds the blocks around a camera in time independent of the number of blocks in the city."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        self._trees = octave_trees(blocks)

    def within_radius(self, position: Position, selection_radius: float) -> tuple[BlockInView, ...]:
        """Return the blocks within `selection_radius` of their own radii, and always the nearest; nearest first."""
        found = {next(self._ranked(position)), *self._within(position, selection_radius)}
        return tuple(self._in_view(index, distance, selection_radius) for distance, index in sorted(found))

    def nearest_first(self, position: Position, selection_radius: float) -> Iterator[BlockInView]:
        """Return an iterator over all blocks of the city, nearest first, evaluated lazily."""
        return (self._in_view(index, distance, selection_radius) for distance, index in self._ranked(position))

    def _ranked(self, position: Position) -> Iterator[tuple[float, int]]:
        yielded: set[int] = set()
        count = 1
        while len(yielded) < len(self._blocks):
            for distance, index in sorted(self._nearest(position, count))[:count]:
                if index not in yielded:
                    yielded.add(index)
                    yield distance, index
            count *= 2

    def _nearest(self, position: Position, count: int) -> Iterator[tuple[float, int]]:
        for indices, tree, _ in self._trees:
            _, local = tree.query(position[:2], k=list(range(1, min(count, len(indices)) + 1)))
            for index in indices[local]:
                yield horizontal_distance(position, self._blocks[index]), int(index)

    def _within(self, position: Position, selection_radius: float) -> Iterator[tuple[float, int]]:
        for indices, tree, largest in self._trees:
            for index in indices[tree.query_ball_point(position[:2], selection_radius * largest)]:
                block = self._blocks[index]
                distance = horizontal_distance(position, block)
                if distance < selection_radius * block.radius:
                    yield distance, int(index)

    def _in_view(self, index: int, distance: float, selection_radius: float) -> BlockInView:
        block = self._blocks[index]
        range_weight = range_falloff(distance / (selection_radius * block.radius))
        return BlockInView(block=block, distance=distance, range_weight=range_weight, selection_weight=range_weight)


class BlockSelector:
    """Selects the blocks of a view; loads no block that cannot contribute."""

    def __init__(self, run: RunFolder, city: City, cache: BlockCache, *, allow_missing: bool) -> None:
        self._run, self._city, self._cache, self._allow_missing = run, city, cache, allow_missing
        self._index = BlockIndex(city.blocks)

    def select(self, view: Cameras, rule: WeightingRule, max_blocks: int) -> tuple[BlockInView, ...]:
        """Return the blocks around a view, the nearest block of the city first, then by distance.

        Weights of per-pixel rules are their means at low resolution.

        Raises:
            RunError: a block around the camera is not trained (unless that is allowed), or its file is broken.
        """
        blocks, proposals = self._score(view, rule)
        trained = [block for block in blocks if block.trained]
        inputs = _low_res_blend_inputs(trained, proposals, view)
        confidence = fallback_confidence([block.selection_weight for block in trained])
        weights = rule.weights(inputs, self._city.power) if confidence > 0.0 else torch.zeros_like(inputs.distances)
        blended = blend_with_fallback(weights, confidence, 0)
        mean_weights = blended.flatten(1).mean(1) if blended.ndim > 1 else blended
        kept = keep_top_k(mean_weights, max_blocks)
        limits = kept / mean_weights.clamp_min(1e-30)
        weighted = {
            block.name: replace(block, weight=weight, weight_limit=limit)
            for block, weight, limit in zip(trained, kept.tolist(), limits.tolist(), strict=True)
        }
        return tuple(weighted.get(block.name, block) for block in blocks)

    def _score(self, view: Cameras, rule: WeightingRule) -> tuple[list[BlockInView], dict[str, ProposalRendering]]:
        """Return the blocks around a view without weights, and the proposal renderings of those that need one."""
        candidates = self._candidates(view)
        # A single candidate is rendered at any visibility.
        needs_proposals = len(candidates) > 1 and (self._city.visibility_threshold > 0.0 or not rule.horizontal)
        low_res_view = low_res_camera(view) if needs_proposals else None
        blocks: list[BlockInView] = []
        proposals: dict[str, ProposalRendering] = {}
        for block in candidates:
            nearer = [(other.distance, other.selection_weight) for other in blocks]
            if rule.horizontal and is_negligible(block.distance, nearer, self._city.power):
                blocks.append(block)
            elif not self._is_trained(block):
                blocks.append(replace(block, selection_weight=0.0, trained=False))
            elif low_res_view is None or block.range_weight == 0.0:
                blocks.append(block)
            else:
                loaded = self._cache.get(block.name)
                proposal = render_proposals(loaded.field, loaded.to_block_frame(low_res_view))
                proposals[block.name] = proposal
                blocks.append(self._with_visibility(block, float(proposal.visibility.mean())))
        return blocks, proposals

    def _with_visibility(self, block: BlockInView, visibility: float) -> BlockInView:
        falloff = visibility_falloff(visibility, self._city.visibility_threshold)
        return replace(block, visibility=visibility, selection_weight=block.range_weight * falloff)

    def _candidates(self, view: Cameras) -> tuple[BlockInView, ...]:
        x, y, z = view.centers[0].tolist()
        candidates = self._index.within_radius((x, y, z), self._city.selection_radius)
        if any(self._is_trained(candidate) for candidate in candidates):
            return candidates
        ranked = self._index.nearest_first((x, y, z), self._city.selection_radius)
        nearest = next((candidate for candidate in ranked if self._is_trained(candidate)), None)
        if nearest is None:
            raise RunError(f"{self._run.path}: no block is trained; run 'blocknerf train' first")
        return (*candidates, nearest)

    def _is_trained(self, block: BlockInView) -> bool:
        try:
            self._cache.get(block.name)
        except FileNotFoundError:
            if not self._allow_missing:
                path = self._run.field(block.name)
                raise RunError(
                    f"{path}: block {block.name} is not trained; run 'blocknerf train --block {block.name}'"
                ) from None
            return False
        return True


def low_res_camera(view: Cameras) -> Cameras:
    """Return the view at the resolution of the proposal renderings."""
    return view.scaled(min(1.0, VISIBILITY_SIDE / max(int(view.width), int(view.height))))


def blend_inputs(
    blocks: Sequence[BlockInView], rays: RayBundle, visibility: Sequence[Tensor], depth: Sequence[Tensor]
) -> BlendInputs:
    """Return the inputs of the weighting rules; `visibility` and `depth` may be empty if the rule does not use them."""
    new_tensor = rays.pixel_radii.new_tensor
    return BlendInputs(
        distances=new_tensor([block.distance for block in blocks], dtype=torch.float64),
        selection_weights=new_tensor([block.selection_weight for block in blocks], dtype=torch.float64),
        origins=new_tensor([block.block.origin for block in blocks]),
        rays=rays,
        visibility=torch.stack(list(visibility)) if visibility else None,
        depth=torch.stack(list(depth)) if depth else None,
    )


def _low_res_blend_inputs(
    blocks: Sequence[BlockInView], proposals: Mapping[str, ProposalRendering], view: Cameras
) -> BlendInputs:
    rays = low_res_camera(view).generate_rays(0)
    # A block without a proposal rendering is out of range, or the rule does not need it.
    zeros = torch.zeros_like(rays.pixel_radii)
    missing = ProposalRendering(visibility=zeros, depth=zeros, opacity=zeros)
    images = [proposals.get(block.name, missing) for block in blocks]
    return blend_inputs(blocks, rays, [image.visibility for image in images], [image.depth for image in images])


def horizontal_distance(position: Position, block: Block) -> float:
    """Return the horizontal distance from a position to a block's origin."""
    return math.hypot(position[0] - block.origin[0], position[1] - block.origin[1])


def range_falloff(fraction: float) -> float:
    """Return the selection weight at a fraction of the selection radius: 1 inside, falling smoothly to 0 at the rim.

    >>> [round(range_falloff(fraction), 3) for fraction in (0.0, 0.75, 0.875, 1.0, 2.0)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    return smoothstep((1.0 - fraction) / RANGE_FADE)


def visibility_falloff(visibility: float | None, threshold: float) -> float:
    """Return the selection weight at a mean visibility: 0 below the threshold, rising smoothly to 1 at twice it.

    An unknown visibility counts as 1, and a threshold of 0 culls nothing.

    >>> [round(visibility_falloff(visibility, 0.1), 3) for visibility in (0.05, 0.1, 0.15, 0.2, 0.9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    if visibility is None or threshold == 0.0:
        return 1.0
    return smoothstep((visibility - threshold) / threshold)


def smoothstep(fraction: float) -> float:
    """Return the cubic Hermite step: 0 up to 0, 1 from 1, with zero derivative at both ends."""
    t = min(max(fraction, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
