"""The trained blocks of a run as a graph whose edges are seams, and how codes are matched along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.appearance import AppearanceQuery, appearance_of, code_for_block, reference_segment
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.cache import BlockCache, block_loader
from blocknerf.city.manifest import City
from blocknerf.city.matching import STEPS, MatchedBlock, connected_components, graph_center, match_codes
from blocknerf.city.overlaps import BlockOverlap, adjacent_blocks, color_difference, find_overlaps
from blocknerf.city.renderer import CACHE_BYTES
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import horizontal_distance
from blocknerf.city.training_images import block_training_frames
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.partition.frame_assignment import FrameAssignment
from blocknerf.rendering.protocol import Field
from pipelines.console import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceReference:
    """Whose light a look is of."""

    frame: str | None
    """A photograph; None for its segment on average."""
    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapChange:
    """What matching did to a seam."""

    blocks: tuple[str, str]
    visibility: float
    before: float
    """Mean absolute difference of colors, 0..1, with the codes that each block had of that light by itself."""
    after: float


class BlockGraph:
    """The trained blocks of a run, and where they meet."""

    def __init__(
        self, folder: RunFolder, city: City, *, updated: str | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Read which photographs train each block.

        Args:
            folder: The run.
            city: Its blocks.
            updated: A block to take as its update has it, which has not taken its place yet.
            device: Where fields are looked at.

        Raises:
            RunError: no block is trained, or a file is broken.
        """
        self.folder, self.city, self.capture = folder, city, read_capture(folder.capture)
        self._updated, self._device = updated, device
        done = {*folder.trained_blocks(), *([updated] if updated is not None else [])}
        self.blocks = tuple(block for block in city.blocks if block.name in done)
        if not self.blocks:
            raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
        self.names = tuple(block.name for block in self.blocks)
        self._found = {name: self._block_frames(name) for name in self.names}
        self.photographs = {name: own.select(member.frames) for name, (own, member) in self._found.items()}
        load = {home: block_loader(home, city, device) for home in {self.run_of(name) for name in self.names}}
        self._cache = BlockCache(lambda name: load[self.run_of(name)](name), CACHE_BYTES)

    def run_of(self, name: str) -> RunFolder:
        """Where the files of a block lie."""
        return self.folder.update_run(name) if name == self._updated else self.folder

    def field(self, name: str) -> Field:
        """The field of a block."""
        return self._cache.get(name).field

    def reference(self, name: str | None) -> AppearanceReference:
        """What a name stands for: a photograph, a segment, or without one the segment that trains the most blocks.

        Raises:
            RunError: it stands for neither.
        """
        if name is None:
            trained = [member.frames for own, member in self._found.values() if own is self.capture]
            return AppearanceReference(frame=None, segment=reference_segment(self.capture, trained))
        segments = {frame.name: frame.segment for frame in self.capture.frames}
        if name in segments:
            return AppearanceReference(frame=name, segment=segments[name])
        if name in self.capture.segments:
            return AppearanceReference(frame=None, segment=name)
        known = ", ".join(list(self.capture.segments)[:8])
        raise RunError(f"match: the capture has neither a photograph nor a segment {name!r}; its segments are {known}")

    def appearance(self, source: AppearanceReference) -> AppearanceQuery:
        """What each block looks like before it is matched."""
        segment = source.segment if source.frame is None else None
        return appearance_of(self.capture, (), segment=segment, frame=source.frame)

    def exposure(self, source: AppearanceReference, root: str) -> float | None:
        """At which blocks are matched: the photograph's, or what the segment was taken with at the root."""
        return self.appearance(source).exposure_at(torch.tensor(self.city.block(root).origin))

    def overlaps(self, around: str | None = None) -> list[BlockOverlap]:
        """Where the blocks meet, or where one meets its neighbors."""
        pairs = [
            pair for pair in adjacent_blocks(self.blocks) if around is None or around in {block.name for block in pair}
        ]
        cameras = {name: photographs.cameras().to(self._device) for name, photographs in self.photographs.items()}
        return find_overlaps(progress(pairs, "seams", len(pairs)), cameras, self.field)

    def unmatched_codes(self, source: AppearanceReference) -> dict[str, Tensor]:
        """The codes that each block has of a light by itself, as far as it was trained on it."""
        appearance = self.appearance(source)
        return {name: code_for_block(self.field(name), appearance) for name in self.names}

    def initial_codes(self, name: str, source: AppearanceReference) -> list[Tensor]:
        """Codes from which the search for a block's may begin: the wanted light as it knows it, and every other."""
        photographs = self.photographs[name]
        known = [frozenset(photographs.frames[i].name for i in each) for each in photographs.segments.values()]
        lights = [self.appearance(source), *(AppearanceQuery(frames=(names,)) for names in known)]
        return [code_for_block(self.field(name), light) for light in lights]

    def reference_blocks(
        self, source: AppearanceReference, seams: Sequence[BlockOverlap], asked: str | None = None
    ) -> list[str]:
        """Where to begin in each part of the city that no seam connects with the others; the first is the look's.

        Raises:
            RunError: there is no such block, or it is not trained.
        """
        if asked is not None and self.city.block(asked).name not in self.names:
            raise RunError(f"match: block {asked} is not trained; run 'blocknerf train --block {asked}'")
        first = asked or (self._nearest(source.frame) if source.frame is not None else None)
        found = sorted(connected_components(self.names, seams), key=lambda island: (first not in island, -len(island)))
        lit = self.num_matching_images(source)
        return [first if first in island else graph_center(island, seams, lit) for island in found]

    def num_matching_images(self, source: AppearanceReference) -> dict[str, int]:
        """How many photographs of the light's segment train each block."""
        frames = {name: own.frames for name, own in self.photographs.items()}
        return {name: sum(frame.segment == source.segment for frame in each) for name, each in frames.items()}

    def match(
        self,
        source: AppearanceReference,
        seams: Sequence[BlockOverlap],
        codes: Mapping[str, Tensor],
        exposure: float | None,
        steps: int = STEPS,
    ) -> Iterator[MatchedBlock]:
        """The codes of all blocks that seams connect with those whose codes are given."""
        return match_codes(
            seams, self.field, codes, lambda name: self.initial_codes(name, source), exposure, steps=steps
        )

    def overlap_changes(
        self,
        seams: Sequence[BlockOverlap],
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        exposure: float | None,
    ) -> list[OverlapChange]:
        """What each seam looks like with some codes and with others."""
        return [
            OverlapChange(
                blocks=seam.blocks,
                visibility=seam.visibility,
                before=color_difference(seam, self.field, before, exposure),
                after=color_difference(seam, self.field, after, exposure),
            )
            for seam in seams
        ]

    def preset(
        self, source: AppearanceReference, root: str, exposure: float | None, codes: Mapping[str, Tensor]
    ) -> AppearancePreset:
        """The look of some codes, for the fields as they are."""
        return AppearancePreset(
            reference_block=root,
            frame=source.frame,
            segment=source.segment,
            exposure=exposure,
            city=self.city.digest,
            field_fingerprints={name: fingerprint(self.run_of(name).field(name)) for name in codes},
            codes={name: code.cpu() for name, code in codes.items()},
        )

    def _block_frames(self, name: str) -> tuple[Capture, FrameAssignment]:
        home = self.run_of(name)
        return block_training_frames(home, name, self.capture if home == self.folder else read_capture(home.capture))

    def _nearest(self, frame: str) -> str:
        """The block that stands nearest to a photograph, of those trained on it if there are any."""
        trained = [
            block for block in self.blocks if frame in {each.name for each in self.photographs[block.name].frames}
        ]
        place = self.capture.frames[self.capture.index(frame)].center
        return min(trained or self.blocks, key=lambda block: (horizontal_distance(place, block), block.name)).name
