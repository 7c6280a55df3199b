"""Score the candidate blocks of a camera: range, and visibility at low resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.city.cache import BlockCache
from blocknerf.city.compositing import is_negligible
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import BlockIndex, BlockSelection, Candidate, Reason, visibility_falloff
from blocknerf.city.weighting import BlendInputs, WeightingRule
from blocknerf.errors import RunError
from blocknerf.rendering.image import ProposalRendering, render_proposals

VISIBILITY_SIDE = 32
"""Longest side, in pixels, of the rendering over which visibility is averaged; more pixels do not change the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBlock:
    """A candidate block and its low-resolution proposal rendering."""

    candidate: Candidate
    proposal: ProposalRendering | None
    """None if it was not needed."""
    selection_weight: float
    """0..1, product of the range and visibility falloffs."""
    trained: bool = True

    @property
    def name(self) -> str:
        return self.candidate.block.name

    @property
    def visibility(self) -> float | None:
        """Predicted visibility, mean over the view; None if it was not needed."""
        return None if self.proposal is None else float(self.proposal.visibility.mean())

    def use(self, weight: float) -> BlockSelection:
        """Return the selection of the block at a blend weight, with the reason."""
        return BlockSelection(
            name=self.name,
            distance=self.candidate.distance,
            visibility=self.visibility,
            weight=weight,
            reason=self._reason(weight),
        )

    def _reason(self, weight: float) -> Reason:
        if not self.trained:
            return "not_trained"
        if weight > 0.0:
            return "blended" if self.selection_weight > 0.0 else "fallback"
        if self.candidate.selection_weight == 0.0:
            return "out_of_range"
        return "negligible" if self.selection_weight > 0.0 else "culled"


class BlockSelector:
    """Scores the blocks around a camera; loads no block that cannot contribute."""

    def __init__(self, run: RunFolder, city: City, cache: BlockCache, *, allow_missing: bool) -> None:
        self._run, self._city, self._cache, self._allow_missing = run, city, cache, allow_missing
        self._index = BlockIndex(city.blocks)

    def score(self, view: Cameras, rule: WeightingRule) -> list[ScoredBlock]:
        """Return the scored candidates of a view, the nearest block of the city first, then by distance.

        Raises:
            RunError: a block around the camera is not trained (unless that is allowed), or its file is broken.
        """
        candidates = self._candidates(view)
        # A single candidate is rendered at any visibility.
        low_res_view = low_res_camera(view) if len(candidates) > 1 and self._needs_proposal(rule) else None
        scored: list[ScoredBlock] = []
        for candidate in candidates:
            if self._is_negligible(candidate, scored, rule):
                scored.append(
                    ScoredBlock(candidate=candidate, proposal=None, selection_weight=candidate.selection_weight)
                )
            elif not self._is_trained(candidate):
                scored.append(ScoredBlock(candidate=candidate, proposal=None, selection_weight=0.0, trained=False))
            else:
                scored.append(self._score_block(candidate, low_res_view))
        return scored

    def _needs_proposal(self, rule: WeightingRule) -> bool:
        return self._city.visibility_threshold > 0.0 or not rule.horizontal

    def _is_negligible(self, candidate: Candidate, nearer: Sequence[ScoredBlock], rule: WeightingRule) -> bool:
        if not rule.horizontal:
            return False
        nearer_weights = [(block.candidate.distance, block.selection_weight) for block in nearer]
        return is_negligible(candidate.distance, nearer_weights, self._city.power)

    def _candidates(self, view: Cameras) -> tuple[Candidate, ...]:
        x, y, z = view.centers[0].tolist()
        candidates = self._index.within_radius((x, y, z), self._city.selection_radius)
        if any(self._is_trained(candidate) for candidate in candidates):
            return candidates
        ranked = self._index.nearest_first((x, y, z), self._city.selection_radius)
        nearest = next((candidate for candidate in ranked if self._is_trained(candidate)), None)
        if nearest is None:
            raise RunError(f"{self._run.path}: no block is trained; run 'blocknerf train' first")
        return (*candidates, nearest)

    def _is_trained(self, candidate: Candidate) -> bool:
        try:
            self._cache.get(candidate.block.name)
        except FileNotFoundError:
            if not self._allow_missing:
                name = candidate.block.name
                path = self._run.field(name)
                raise RunError(f"{path}: block {name} is not trained; run 'blocknerf train --block {name}'") from None
            return False
        return True

    def _score_block(self, candidate: Candidate, low_res_view: Cameras | None) -> ScoredBlock:
        proposal = None
        if low_res_view is not None and candidate.selection_weight > 0.0:
            block = self._cache.get(candidate.block.name)
            proposal = render_proposals(block.field, block.to_block_frame(low_res_view))
        visibility = None if proposal is None else float(proposal.visibility.mean())
        selection_weight = candidate.selection_weight * visibility_falloff(visibility, self._city.visibility_threshold)
        return ScoredBlock(candidate=candidate, proposal=proposal, selection_weight=selection_weight)


def low_res_camera(view: Cameras) -> Cameras:
    """Return the view at the resolution of the proposal renderings."""
    return view.scaled(min(1.0, VISIBILITY_SIDE / max(int(view.width), int(view.height))))


def low_res_blend_inputs(scored: Sequence[ScoredBlock], view: Cameras) -> BlendInputs:
    """Return the inputs of the weighting rules at low resolution."""
    rays = low_res_camera(view).generate_rays(0)
    # A block without a proposal rendering is out of range, or the rule does not need it.
    zeros = torch.zeros_like(rays.pixel_radii)
    proposals = [block.proposal or ProposalRendering(visibility=zeros, depth=zeros, opacity=zeros) for block in scored]
    return blend_inputs(scored, rays, [item.visibility for item in proposals], [item.depth for item in proposals])


def blend_inputs(
    scored: Sequence[ScoredBlock], rays: RayBundle, visibility: Sequence[Tensor], depth: Sequence[Tensor]
) -> BlendInputs:
    """Return the inputs of the weighting rules; `visibility` and `depth` may be empty if the rule does not use them."""
    candidates = [block.candidate for block in scored]
    return BlendInputs(
        distances=rays.pixel_radii.new_tensor([candidate.distance for candidate in candidates], dtype=torch.float64),
        selection_weights=rays.pixel_radii.new_tensor(
            [block.selection_weight for block in scored], dtype=torch.float64
        ),
        origins=rays.pixel_radii.new_tensor([candidate.block.origin for candidate in candidates]),
        rays=rays,
        visibility=torch.stack(list(visibility)) if visibility else None,
        depth=torch.stack(list(depth)) if depth else None,
    )
