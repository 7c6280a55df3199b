"""The trained blocks of a run as a graph whose edges are seams, and how codes are matched along it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.appearance import Appearance, block_code, city_appearance, reference_segment
from blocknerf.city.cache import BlockCache, open_blocks
from blocknerf.city.looks import Look
from blocknerf.city.manifest import City
from blocknerf.city.matching import STEPS, Matched, central_block, islands, match_codes
from blocknerf.city.photographs import block_photographs
from blocknerf.city.renderer import CACHE_BYTES
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.seams import Seam, find_seams, meeting, seam_difference
from blocknerf.city.selection import plan_distance
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.partition.membership import Membership
from blocknerf.rendering.protocol import Field
from pipelines.job import tracked


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose light a look is of."""

    frame: str | None
    """A photograph; None for its segment on average."""
    segment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamChange:
    """What matching did to a seam."""

    blocks: tuple[str, str]
    visibility: float
    before: float
    """Mean absolute difference of colors, 0..1, with the codes that each block had of that light by itself."""
    after: float


class Meetings:
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
        done = {*folder.blocks_done(), *([updated] if updated is not None else [])}
        self.blocks = tuple(block for block in city.blocks if block.name in done)
        if not self.blocks:
            raise RunError(f"{folder.path}: no block is trained; run 'blocknerf train' first")
        self.names = tuple(block.name for block in self.blocks)
        self._found = {name: self._block_photographs(name) for name in self.names}
        self.photographs = {name: own.select(member.frames) for name, (own, member) in self._found.items()}
        load = {home: open_blocks(home, city, device) for home in {self.home(name) for name in self.names}}
        self._cache = BlockCache(lambda name: load[self.home(name)](name), CACHE_BYTES)

    def home(self, name: str) -> RunFolder:
        """Where the files of a block lie."""
        return self.folder.update(name) if name == self._updated else self.folder

    def field(self, name: str) -> Field:
        """The field of a block."""
        return self._cache.get(name).field

    def source(self, name: str | None) -> Source:
        """What a name stands for: a photograph, a segment, or without one the segment that trains the most blocks.

        Raises:
            RunError: it stands for neither.
        """
        if name is None:
            trained = [member.frames for own, member in self._found.values() if own is self.capture]
            return Source(frame=None, segment=reference_segment(self.capture, trained))
        segments = {frame.name: frame.segment for frame in self.capture.frames}
        if name in segments:
            return Source(frame=name, segment=segments[name])
        if name in self.capture.segments:
            return Source(frame=None, segment=name)
        known = ", ".join(list(self.capture.segments)[:8])
        raise RunError(f"match: the capture has neither a photograph nor a segment {name!r}; its segments are {known}")

    def appearance(self, source: Source) -> Appearance:
        """What each block looks like before it is matched."""
        segment = source.segment if source.frame is None else None
        return city_appearance(self.capture, (), segment=segment, frame=source.frame)

    def exposure(self, source: Source, root: str) -> float | None:
        """At which blocks are matched: the photograph's, or what the segment was taken with at the root."""
        return self.appearance(source).exposure_at(torch.tensor(self.city.block(root).origin))

    def seams(self, around: str | None = None) -> list[Seam]:
        """Where the blocks meet, or where one meets its neighbors."""
        pairs = [pair for pair in meeting(self.blocks) if around is None or around in {block.name for block in pair}]
        cameras = {name: photographs.cameras().to(self._device) for name, photographs in self.photographs.items()}
        return find_seams(tracked(pairs, "seams", len(pairs)), cameras, self.field)

    def own_codes(self, source: Source) -> dict[str, Tensor]:
        """The codes that each block has of a light by itself, as far as it was trained on it."""
        appearance = self.appearance(source)
        return {name: block_code(self.field(name), appearance) for name in self.names}

    def starts(self, name: str, source: Source) -> list[Tensor]:
        """Codes from which the search for a block's may begin: the wanted light as it knows it, and every other."""
        photographs = self.photographs[name]
        known = [frozenset(photographs.frames[i].name for i in each) for each in photographs.segments.values()]
        lights = [self.appearance(source), *(Appearance(frames=(names,)) for names in known)]
        return [block_code(self.field(name), light) for light in lights]

    def roots(self, source: Source, seams: Sequence[Seam], asked: str | None = None) -> list[str]:
        """Where to begin in each part of the city that no seam connects with the others; the first is the look's.

        Raises:
            RunError: there is no such block, or it is not trained.
        """
        if asked is not None and self.city.block(asked).name not in self.names:
            raise RunError(f"match: block {asked} is not trained; run 'blocknerf train --block {asked}'")
        first = asked or (self._nearest(source.frame) if source.frame is not None else None)
        found = sorted(islands(self.names, seams), key=lambda island: (first not in island, -len(island)))
        lit = self.lit(source)
        return [first if first in island else central_block(island, seams, lit) for island in found]

    def lit(self, source: Source) -> dict[str, int]:
        """How many photographs of the light's segment train each block."""
        frames = {name: own.frames for name, own in self.photographs.items()}
        return {name: sum(frame.segment == source.segment for frame in each) for name, each in frames.items()}

    def match(
        self,
        source: Source,
        seams: Sequence[Seam],
        codes: Mapping[str, Tensor],
        exposure: float | None,
        steps: int = STEPS,
    ) -> Iterator[Matched]:
        """The codes of all blocks that seams connect with those whose codes are given."""
        return match_codes(seams, self.field, codes, lambda name: self.starts(name, source), exposure, steps=steps)

    def changes(
        self, seams: Sequence[Seam], before: Mapping[str, Tensor], after: Mapping[str, Tensor], exposure: float | None
    ) -> list[SeamChange]:
        """What each seam looks like with some codes and with others."""
        return [
            SeamChange(
                blocks=seam.blocks,
                visibility=seam.visibility,
                before=seam_difference(seam, self.field, before, exposure),
                after=seam_difference(seam, self.field, after, exposure),
            )
            for seam in seams
        ]

    def look(self, source: Source, root: str, exposure: float | None, codes: Mapping[str, Tensor]) -> Look:
        """The look of some codes, for the fields as they are."""
        return Look(
            root=root,
            frame=source.frame,
            segment=source.segment,
            exposure=exposure,
            city=self.city.digest,
            fields={name: fingerprint(self.home(name).field(name)) for name in codes},
            codes={name: code.cpu() for name, code in codes.items()},
        )

    def _block_photographs(self, name: str) -> tuple[Capture, Membership]:
        home = self.home(name)
        return block_photographs(home, name, self.capture if home == self.folder else read_capture(home.capture))

    def _nearest(self, frame: str) -> str:
        """The block that stands nearest to a photograph, of those trained on it if there are any."""
        trained = [
            block for block in self.blocks if frame in {each.name for each in self.photographs[block.name].frames}
        ]
        place = self.capture.frames[self.capture.index(frame)].center
        return min(trained or self.blocks, key=lambda block: (plan_distance(place, block), block.name)).name
