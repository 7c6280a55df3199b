"""The trained blocks of a run as a graph with overlaps as edges, and the matching of appearance codes along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.appearance import AppearanceQuery, appearance_of, code_for_block, reference_segment
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.cache import BlockCache, block_loader
from blocknerf.city.manifest import City
from blocknerf.city.matching import STEPS, MatchedBlock, connected_components, graph_center, match_codes
from blocknerf.city.overlaps import BlockOverlap, adjacent_blocks, color_difference, find_overlaps
from blocknerf.city.renderer import CACHE_BYTES
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.selection import horizontal_distance
from blocknerf.city.training_images import block_capture, trained_frames
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.rendering.protocol import Field
from pipelines.console import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class AppearanceReference:
    """The image or segment that an appearance preset reproduces."""

    frame: str | None
    """Name of an image; None for the mean of the segment."""
    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapChange:
    """How matching changed the color difference in an overlap."""

    blocks: tuple[str, str]
    visibility: float
    before: float
    """Mean absolute difference of colors, 0..1, with each block's own, unmatched code."""
    after: float


class BlockGraph:
    """The trained blocks of a run and their overlaps."""

    def __init__(
        self, folder: RunFolder, city: City, *, updated: str | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Read which images train each block.

        Args:
            folder: The run.
            city: Its blocks.
            updated: A block to read from the folder of its unfinished update.
            device: Device for rendering.

        Raises:
            RunError: No block is trained, or a file is broken.
        """
        self.folder, self.city = folder, city
        self._updated, self._device = updated, device
        trained = {*folder.trained_blocks(), *([updated] if updated is not None else [])}
        self.blocks = tuple(block for block in city.blocks if block.name in trained)
        if not self.blocks:
            raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
        self.names = tuple(block.name for block in self.blocks)
        self.images = {name: block_capture(self.run_of(name), name) for name in self.names}
        load = {run: block_loader(run, city, device) for run in {self.run_of(name) for name in self.names}}
        self._cache = BlockCache(lambda name: load[self.run_of(name)](name), CACHE_BYTES)

    @cached_property
    def capture(self) -> Capture:
        """The whole capture, to find a reference in."""
        return read_capture(self.folder.capture)

    def run_of(self, name: str) -> RunFolder:
        """Return the run folder that holds the files of a block."""
        return self.folder.update_run(name) if name == self._updated else self.folder

    def field(self, name: str) -> Field:
        """Return the field of a block."""
        return self._cache.get(name).field

    def reference(self, name: str | None) -> AppearanceReference:
        """Return the image or segment of a name; without a name, the segment that trains the most blocks.

        Raises:
            RunError: The name is neither an image nor a segment.
        """
        if name is None:
            trained = trained_frames(self.folder, [b for b in self.blocks if b.name != self._updated], self.capture)
            return AppearanceReference(frame=None, segment=reference_segment(self.capture, trained))
        segments = {frame.name: frame.segment for frame in self.capture.frames}
        if name in segments:
            return AppearanceReference(frame=name, segment=segments[name])
        if name in self.capture.segments:
            return AppearanceReference(frame=None, segment=name)
        known = ", ".join(list(self.capture.segments)[:8])
        raise RunError(f"match: the capture has no image or segment {name!r}; its segments are {known}")

    def appearance(self, reference: AppearanceReference) -> AppearanceQuery:
        """Return the query for each block's own, unmatched appearance of a reference."""
        segment = reference.segment if reference.frame is None else None
        return appearance_of(self.capture, (), segment=segment, frame=reference.frame)

    def exposure(self, reference: AppearanceReference, reference_block: str) -> float | None:
        """Return the exposure for matching: that of the image, or that of the segment near the reference block."""
        return self.appearance(reference).exposure_at(torch.tensor(self.city.block(reference_block).origin))

    def overlaps(self, around: str | None = None) -> list[BlockOverlap]:
        """Return the overlaps of all blocks, or of one block with its neighbors."""
        pairs = [
            pair for pair in adjacent_blocks(self.blocks) if around is None or around in {block.name for block in pair}
        ]
        cameras = {name: capture.cameras().to(self._device) for name, capture in self.images.items()}
        return find_overlaps(progress(pairs, "overlaps", len(pairs)), cameras, self.field)

    def unmatched_codes(self, reference: AppearanceReference) -> dict[str, Tensor]:
        """Return each block's own code of a reference, before matching."""
        appearance = self.appearance(reference)
        return {name: code_for_block(self.field(name), appearance) for name in self.names}

    def initial_codes(self, name: str, reference: AppearanceReference) -> list[Tensor]:
        """Return codes from which to optimize a block's code: its own of the reference, and its own of each segment."""
        capture = self.images[name]
        segments = [frozenset(capture.frames[i].name for i in indices) for indices in capture.segments.values()]
        queries = [self.appearance(reference), *(AppearanceQuery(frames=(names,)) for names in segments)]
        return [code_for_block(self.field(name), query) for query in queries]

    def reference_blocks(
        self, reference: AppearanceReference, overlaps: Sequence[BlockOverlap], block: str | None = None
    ) -> list[str]:
        """Return the block to start from in each connected component; the first is the preset's reference block.

        Raises:
            RunError: The block does not exist, or is not trained.
        """
        if block is not None and self.city.block(block).name not in self.names:
            raise RunError(f"match: block {block} is not trained; run 'blocknerf train --block {block}'")
        first = block or (self._nearest(reference.frame) if reference.frame is not None else None)
        components = sorted(
            connected_components(self.names, overlaps), key=lambda names: (first not in names, -len(names))
        )
        counts = self.num_matching_images(reference)
        return [first if first in names else graph_center(names, overlaps, counts) for names in components]

    def num_matching_images(self, reference: AppearanceReference) -> dict[str, int]:
        """Return how many images of the reference's segment train each block."""
        images = {name: capture.frames for name, capture in self.images.items()}
        return {name: sum(frame.segment == reference.segment for frame in frames) for name, frames in images.items()}

    def match(
        self,
        reference: AppearanceReference,
        overlaps: Sequence[BlockOverlap],
        codes: Mapping[str, Tensor],
        exposure: float | None,
        steps: int = STEPS,
    ) -> Iterator[MatchedBlock]:
        """Yield the matched code of each block that is connected to a block in `codes`."""
        return match_codes(
            overlaps, self.field, codes, lambda name: self.initial_codes(name, reference), exposure, steps=steps
        )

    def overlap_changes(
        self,
        overlaps: Sequence[BlockOverlap],
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        exposure: float | None,
    ) -> list[OverlapChange]:
        """Return the color difference in each overlap with the codes before and after matching."""
        return [
            OverlapChange(
                blocks=overlap.blocks,
                visibility=overlap.visibility,
                before=color_difference(overlap, self.field, before, exposure),
                after=color_difference(overlap, self.field, after, exposure),
            )
            for overlap in overlaps
        ]

    def preset(
        self, reference: AppearanceReference, reference_block: str, exposure: float | None, codes: Mapping[str, Tensor]
    ) -> AppearancePreset:
        """Return the appearance preset of these codes, for the fields as they are."""
        return AppearancePreset(
            reference_block=reference_block,
            frame=reference.frame,
            segment=reference.segment,
            exposure=exposure,
            city=self.city.digest,
            field_fingerprints={name: fingerprint(self.run_of(name).field(name)) for name in codes},
            codes={name: code.cpu() for name, code in codes.items()},
        )

    def _nearest(self, frame: str) -> str:
        """Return the block nearest to an image, among the blocks trained on it if there are any."""
        trained = [block for block in self.blocks if frame in {image.name for image in self.images[block.name].frames}]
        center = self.capture.frames[self.capture.index(frame)].center
        return min(trained or self.blocks, key=lambda block: (horizontal_distance(center, block), block.name)).name
