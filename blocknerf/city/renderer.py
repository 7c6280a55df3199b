"""Pictures of the whole city: a few blocks around the camera, each rendered alone, blended."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import read_capture
from blocknerf.city.appearance import Appearance, block_code, block_exposure, city_appearance
from blocknerf.city.cache import BlockCache, Loader, open_blocks
from blocknerf.city.compositing import blend, block_weights, is_outweighed
from blocknerf.city.manifest import City, RunFolder, Weighting, read_city
from blocknerf.city.selection import BlockIndex, BlockUse, Candidate, Reason, visibility_presence
from blocknerf.errors import RunError
from blocknerf.partition.membership import read_membership
from blocknerf.rendering.image import Rendering, predict_visibility, render_image

MAX_BLOCKS = 3
CACHE_BYTES = 2 << 30
VISIBILITY_SIDE = 32
"""Longest side, in pixels, of the picture over which visibility is averaged; the mean needs no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CityRendering:
    """A picture of the city, its geometry, and which blocks it is from."""

    color: Float[Tensor, "height width 3"]
    """0..1, as a photograph would show it."""
    depth: Float[Tensor, "height width"]
    """Distance along each pixel's ray in world units."""
    opacity: Float[Tensor, "height width"]
    uses: tuple[BlockUse, ...]
    """Every block that was considered, the city's nearest first, then by distance."""

    @property
    def rendered(self) -> tuple[BlockUse, ...]:
        """The blocks that are in the picture; their weights sum to one."""
        return tuple(use for use in self.uses if use.kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    """A candidate with what low resolution shows of it."""

    candidate: Candidate
    visibility: float | None
    """None where it was not needed."""
    presence: float
    """0..1, from range and visibility together."""
    trained: bool = True


class CityRenderer:
    """Renders any camera in a city, holding no more blocks in memory than a budget allows.

    Work a picture is for the blocks around the camera, however many the city has.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        city: City | None = None,
        cache_bytes: int = CACHE_BYTES,
        device: torch.device | str = "cpu",
        load: Loader | None = None,
        allow_missing: bool = False,
    ) -> None:
        """Open a run; blocks are loaded as cameras come near them.

        Args:
            run: The run folder.
            city: Read from the run where not given.
            cache_bytes: Memory that the parameters of loaded blocks may take together.
            device: Where to render.
            load: Gives a block's field; by default from the run's files.
            allow_missing: Render from the blocks that are trained, and say which were missed, instead of refusing.
        """
        self.run, self.device, self.allow_missing = run, torch.device(device), allow_missing
        self.city = read_city(run.city) if city is None else city
        self.cache = BlockCache(load or open_blocks(run, self.city, self.device), cache_bytes)
        self._index = BlockIndex(self.city.blocks)
        self._appearances: dict[tuple[str | None, str | None], Appearance] = {}

    @torch.no_grad()
    def render(
        self,
        cameras: Cameras,
        index: int = 0,
        *,
        segment: str | None = None,
        frame: str | None = None,
        codes: Mapping[str, Tensor] | None = None,
        exposure: float | None = None,
        weighting: Weighting | None = None,
        max_blocks: int = MAX_BLOCKS,
    ) -> CityRendering:
        """What one camera sees of the city (Tancik et al. 2022, section 4.3).

        Args:
            cameras: A batch of cameras.
            index: Which of them.
            segment: Look like this segment of the capture; by default like the one that trains the most blocks.
            frame: Look like this photograph instead.
            codes: Appearance codes of blocks, by name; blocks without one take theirs from segment or frame.
            exposure: Show this exposure instead of the segment's or the photograph's.
            weighting: Replaces the city's.
            max_blocks: How many blocks may be rendered at most.

        Raises:
            RunError: a block around the camera is not trained or its file is broken, or there is no such look.
        """
        view = cameras[index].to(self.device)
        uses = self.select(view, weighting=weighting, max_blocks=max_blocks)
        rendered = [use for use in uses if use.kept]
        appearance = self._appearance(segment, frame)
        if exposure is not None:
            appearance = replace(appearance, exposure=exposure)
        pictures = [self._render_block(use.name, view, appearance, codes or {}) for use in rendered]
        weights = [use.weight for use in rendered]
        return CityRendering(
            color=blend([picture.color for picture in pictures], weights),
            depth=blend([picture.depth for picture in pictures], weights),
            opacity=blend([picture.opacity for picture in pictures], weights),
            uses=uses,
        )

    @torch.no_grad()
    def select(
        self, view: Cameras, *, weighting: Weighting | None = None, max_blocks: int = MAX_BLOCKS
    ) -> tuple[BlockUse, ...]:
        """Which blocks a view takes, with what weight, and why each of the others is left out."""
        sightings = self._sight(view)
        trained = [sighting for sighting in sightings if sighting.trained]
        shares = block_weights(
            torch.tensor([sighting.candidate.distance for sighting in trained], dtype=torch.float64),
            torch.tensor([sighting.presence for sighting in trained], dtype=torch.float64),
            0,
            weighting=weighting or self.city.weighting,
            power=self.city.power,
            max_blocks=max_blocks,
        )
        weights = {
            sighting.candidate.block.name: share for sighting, share in zip(trained, shares.tolist(), strict=True)
        }
        return tuple(_use(sighting, weights.get(sighting.candidate.block.name, 0.0)) for sighting in sightings)

    def _sight(self, view: Cameras) -> list[_Sighting]:
        """The candidates of a view, nearest first, with what they see of it; none is loaded that cannot matter."""
        candidates = self._candidates(view)
        # One block alone is rendered whatever it sees.
        look = len(candidates) > 1 and self.city.visibility_threshold > 0.0
        sightings: list[_Sighting] = []
        for candidate in candidates:
            shares = [(seen.candidate.distance, seen.presence) for seen in sightings]
            if is_outweighed(candidate.distance, shares, self.city.power):
                sightings.append(_Sighting(candidate=candidate, visibility=None, presence=candidate.presence))
            elif not self._is_trained(candidate):
                sightings.append(_Sighting(candidate=candidate, visibility=None, presence=0.0, trained=False))
            else:
                sightings.append(self._sight_block(candidate, view if look else None))
        return sightings

    def _candidates(self, view: Cameras) -> tuple[Candidate, ...]:
        x, y, z = view.centers[0].tolist()
        candidates = self._index.around((x, y, z), self.city.selection_radius)
        if any(self._is_trained(candidate) for candidate in candidates):
            return candidates
        further = self._index.by_distance((x, y, z), self.city.selection_radius)
        nearest = next((candidate for candidate in further if self._is_trained(candidate)), None)
        if nearest is None:
            raise RunError(f"{self.run.path}: no block is trained; run 'blocknerf train' first")
        return (*candidates, nearest)

    def _is_trained(self, candidate: Candidate) -> bool:
        try:
            self.cache.get(candidate.block.name)
        except FileNotFoundError:
            if not self.allow_missing:
                name = candidate.block.name
                path = self.run.field(name)
                raise RunError(f"{path}: block {name} is not trained; run 'blocknerf train --block {name}'") from None
            return False
        return True

    def _sight_block(self, candidate: Candidate, view: Cameras | None) -> _Sighting:
        visibility = None
        if view is not None and candidate.presence > 0.0:
            longest = max(int(view.width), int(view.height))
            small = view.scaled(min(1.0, VISIBILITY_SIDE / longest))
            visibility = float(predict_visibility(self.cache.get(candidate.block.name).field, small).mean())
        presence = candidate.presence * visibility_presence(visibility, self.city.visibility_threshold)
        return _Sighting(candidate=candidate, visibility=visibility, presence=presence)

    def _render_block(self, name: str, view: Cameras, appearance: Appearance, codes: Mapping[str, Tensor]) -> Rendering:
        block = self.cache.get(name)
        code = codes[name] if name in codes else block_code(block.field, appearance)
        exposure = block_exposure(block.field, appearance)
        return render_image(block.field, view, 0, code.to(self.device), exposure, block.occupancy)

    def _appearance(self, segment: str | None, frame: str | None) -> Appearance:
        if (segment, frame) not in self._appearances:
            self._appearances[segment, frame] = self._find_appearance(segment, frame)
        return self._appearances[segment, frame]

    def _find_appearance(self, segment: str | None, frame: str | None) -> Appearance:
        if self.run.capture.is_file():
            capture = read_capture(self.run.capture)
            members = (read_membership(self.run.frames(block.name), capture) for block in self.city.blocks)
            return city_appearance(capture, (member.frames for member in members), segment=segment, frame=frame)
        if segment is None and frame is None:
            return Appearance()
        raise RunError(f"{self.run.capture}: is not there, so no segment or photograph can be looked like; add it")


def _use(sighting: _Sighting, weight: float) -> BlockUse:
    candidate = sighting.candidate
    return BlockUse(
        name=candidate.block.name,
        distance=candidate.distance,
        visibility=sighting.visibility,
        weight=weight,
        reason=_reason(sighting, weight),
    )


def _reason(sighting: _Sighting, weight: float) -> Reason:
    if not sighting.trained:
        return "not_trained"
    if weight > 0.0:
        return "blended" if sighting.presence > 0.0 else "fallback"
    if sighting.candidate.presence == 0.0:
        return "out_of_range"
    return "outweighed" if sighting.presence > 0.0 else "culled"
