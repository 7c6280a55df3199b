"""What a camera has around it: the blocks in range, and what low resolution shows of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.city.cache import BlockCache
from blocknerf.city.compositing import is_negligible
from blocknerf.city.manifest import City, Weighting
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import BlockIndex, BlockSelection, Candidate, Reason, visibility_falloff
from blocknerf.city.weighting import HORIZONTAL_WEIGHTINGS, BlendInputs
from blocknerf.errors import RunError
from blocknerf.rendering.image import ProposalRendering, render_proposals

VISIBILITY_SIDE = 32
"""Longest side, in pixels, of the picture over which visibility is averaged; the mean needs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBlock:
    """A candidate with what low resolution shows of it."""

    candidate: Candidate
    proposal: ProposalRendering | None
    """None where it was not needed."""
    selection_weight: float
    """0..1, from range and visibility together."""
    trained: bool = True

    @property
    def name(self) -> str:
        return self.candidate.block.name

    @property
    def visibility(self) -> float | None:
        """Mean over the view; None where it was not needed."""
        return None if self.proposal is None else float(self.proposal.visibility.mean())

    def use(self, weight: float) -> BlockSelection:
        """What becomes of the block that is given this share of the picture."""
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
    """Looks at the blocks around a camera; loads none that cannot matter."""

    def __init__(self, run: RunFolder, city: City, cache: BlockCache, *, allow_missing: bool) -> None:
        self._run, self._city, self._cache, self._allow_missing = run, city, cache, allow_missing
        self._index = BlockIndex(city.blocks)

    def score(self, view: Cameras, weighting: Weighting) -> list[ScoredBlock]:
        """The candidates of a view, the city's nearest first, then by distance.

        Raises:
            RunError: a block around the camera is not trained (unless that is allowed), or its file is broken.
        """
        candidates = self._candidates(view)
        # One block alone is rendered whatever it sees.
        small = low_res_camera(view) if len(candidates) > 1 and self._needs_proposal(weighting) else None
        sightings: list[ScoredBlock] = []
        for candidate in candidates:
            if self._is_outweighed(candidate, sightings, weighting):
                sightings.append(
                    ScoredBlock(candidate=candidate, proposal=None, selection_weight=candidate.selection_weight)
                )
            elif not self._is_trained(candidate):
                sightings.append(ScoredBlock(candidate=candidate, proposal=None, selection_weight=0.0, trained=False))
            else:
                sightings.append(self._score_block(candidate, small))
        return sightings

    def _needs_proposal(self, weighting: Weighting) -> bool:
        return self._city.visibility_threshold > 0.0 or weighting not in HORIZONTAL_WEIGHTINGS

    def _is_outweighed(self, candidate: Candidate, nearer: Sequence[ScoredBlock], weighting: Weighting) -> bool:
        if weighting not in HORIZONTAL_WEIGHTINGS:
            return False
        shares = [(seen.candidate.distance, seen.selection_weight) for seen in nearer]
        return is_negligible(candidate.distance, shares, self._city.power)

    def _candidates(self, view: Cameras) -> tuple[Candidate, ...]:
        x, y, z = view.centers[0].tolist()
        candidates = self._index.within_radius((x, y, z), self._city.selection_radius)
        if any(self._is_trained(candidate) for candidate in candidates):
            return candidates
        further = self._index.nearest_first((x, y, z), self._city.selection_radius)
        nearest = next((candidate for candidate in further if self._is_trained(candidate)), None)
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

    def _score_block(self, candidate: Candidate, small: Cameras | None) -> ScoredBlock:
        seen = None
        if small is not None and candidate.selection_weight > 0.0:
            block = self._cache.get(candidate.block.name)
            seen = render_proposals(block.field, block.to_block_frame(small))
        visibility = None if seen is None else float(seen.visibility.mean())
        presence = candidate.selection_weight * visibility_falloff(visibility, self._city.visibility_threshold)
        return ScoredBlock(candidate=candidate, proposal=seen, selection_weight=presence)


def low_res_camera(view: Cameras) -> Cameras:
    """The view at the resolution in which it is only glanced at."""
    return view.scaled(min(1.0, VISIBILITY_SIDE / max(int(view.width), int(view.height))))


def low_res_blend_inputs(sightings: Sequence[ScoredBlock], view: Cameras) -> BlendInputs:
    """What the rules look at, as far as low resolution shows it."""
    rays = low_res_camera(view).generate_rays(0)
    # A block that was not looked at is out of range, or the rule does not ask.
    unknown = torch.zeros_like(rays.pixel_radii)
    glances = [
        seen.proposal or ProposalRendering(visibility=unknown, depth=unknown, opacity=unknown) for seen in sightings
    ]
    return blend_inputs(sightings, rays, [each.visibility for each in glances], [each.depth for each in glances])


def blend_inputs(
    sightings: Sequence[ScoredBlock], rays: RayBundle, visibility: Sequence[Tensor], depth: Sequence[Tensor]
) -> BlendInputs:
    """What the rules look at, with the visibility and depth of each block's picture where a rule needs them."""
    candidates = [seen.candidate for seen in sightings]
    return BlendInputs(
        distances=rays.pixel_radii.new_tensor([each.distance for each in candidates], dtype=torch.float64),
        selection_weights=rays.pixel_radii.new_tensor(
            [seen.selection_weight for seen in sightings], dtype=torch.float64
        ),
        origins=rays.pixel_radii.new_tensor([each.block.origin for each in candidates]),
        rays=rays,
        visibility=torch.stack(list(visibility)) if visibility else None,
        depth=torch.stack(list(depth)) if depth else None,
    )
