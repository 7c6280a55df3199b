"""How well blocks cover a capture: figures per block, and a warning where one starves or is overfull."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.entry import Entry
from blocknerf.errors import RunError
from blocknerf.files import check_format, format_json, read_json, write_atomic
from blocknerf.partition.block import Block
from blocknerf.partition.membership import Membership

if TYPE_CHECKING:
    from rich.table import Table

COVERAGE_FORMAT = "blocknerf.coverage/1"
STARVED = 16
"""Frames below which a field has little to go by."""
OVERFULL = 4.0
"""Times the median number of frames; such a block takes that much longer to see each pixel once."""
MEETING = 0.1
"""Blocks that share at least this part of a diameter are neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCoverage:
    """The figures of one block."""

    block: str
    frames: int
    """Frames that train it."""
    by_sight: int
    """How many of these stand outside and look in."""
    held_out: int
    thinned: int
    pixels: int
    """Photographed pixels that train it, at full resolution."""
    segments: int
    """Distinct segments among its frames."""
    neighbors: tuple[str, ...]
    overlap: float
    """Share of its diameter, along the line to the nearest neighbour's origin, that both cover."""
    warning: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The figures of a partition."""

    frames: int
    """Frames of the capture."""
    unused: int
    """Frames that neither train a block nor are held out: orphans, where allowed, and those thinned out."""
    blocks: tuple[BlockCoverage, ...]
    dropped: int = 0
    """Blocks of a street map that were left out: no frame falls into them, or a few that others hold as well."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"block {block.block}: {block.warning}" for block in self.blocks if block.warning)


def coverage(capture: Capture, blocks: Sequence[Block], members: Sequence[Membership], dropped: int = 0) -> Coverage:
    """The coverage report of a partition; `members` in the order of `blocks`."""
    used = {i for member in members for i in (*member.frames, *member.held_out)}
    overlaps = shared_diameters(blocks)
    typical = median(len(member.frames) for member in members)
    rows = [_row(capture, blocks, member, overlaps[i], typical) for i, member in enumerate(members)]
    return Coverage(frames=len(capture), unused=len(capture) - len(used), blocks=tuple(rows), dropped=dropped)


def shared_diameters(blocks: Sequence[Block]) -> Float[Tensor, "blocks blocks"]:
    """Share of the smaller diameter of each two blocks that both cover, along the line between them; 0 of itself.

    >>> street = [Block(name=f"b{i}", origin=(10.0 * i, 0.0, 0.0), radius=10.0) for i in range(2)]
    >>> shared_diameters(street).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    origins = torch.tensor([block.origin[:2] for block in blocks], dtype=torch.float64)
    radii = torch.tensor([block.radius for block in blocks], dtype=torch.float64)
    smaller = torch.minimum(radii[:, None], radii)
    common = (radii[:, None] + radii - torch.cdist(origins, origins)).clamp_min(0.0)
    return (torch.minimum(common, 2 * smaller) / (2 * smaller)).fill_diagonal_(0.0).float()


def write_coverage(report: Coverage, path: Path, parameters: dict[str, Any]) -> None:
    """Write `coverage.json`; `parameters` are those that the partition was asked for."""
    rows = [asdict(block) for block in report.blocks]
    head = {"format": COVERAGE_FORMAT, "parameters": parameters, "frames": report.frames, "unused": report.unused}
    head["dropped"] = report.dropped
    write_atomic(path, format_json({**head, "warnings": list(report.warnings), "blocks": rows}))


def read_coverage(path: Path) -> Coverage:
    """Read `coverage.json`, but for the parameters.

    Raises:
        RunError: it is missing, broken or of another format; the message names file, key and remedy.
    """
    remedy = "partition the capture again into a new run folder"
    entry = Entry(read_json(path, "coverage"), str(path), remedy=remedy, error=RunError)
    check_format(entry.text("format"), COVERAGE_FORMAT, path, remedy)
    return Coverage(
        frames=entry.whole("frames"),
        unused=entry.whole("unused"),
        blocks=tuple(_read_row(item) for item in entry.objects("blocks")),
        dropped=entry.whole("dropped"),
    )


def coverage_table(report: Coverage) -> "Table":
    """The figures as a table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, caption=_dropped(report.dropped), caption_justify="left")
    for title in ("block", "frames", "by sight", "held out", "thinned", "Mpix", "segments", "overlap", "neighbors"):
        table.add_column(title, justify="left" if title == "block" else "right")
    for row in report.blocks:
        counts = [row.frames, row.by_sight, row.held_out, row.thinned]
        others = [f"{row.pixels / 1e6:.1f}", str(row.segments), f"{row.overlap:.0%}", str(len(row.neighbors))]
        table.add_row(row.block, *map(str, counts), *others, style="yellow" if row.warning else None)
    return table


def _row(
    capture: Capture, blocks: Sequence[Block], member: Membership, overlaps: Float[Tensor, "blocks"], typical: float
) -> BlockCoverage:
    frames = [capture.frames[i] for i in member.frames]
    meeting = [i for i in overlaps.argsort(descending=True).tolist() if overlaps[i] >= MEETING]
    return BlockCoverage(
        block=member.block,
        frames=len(frames),
        by_sight=member.reasons.count("sight"),
        held_out=len(member.held_out),
        thinned=len(member.thinned),
        pixels=sum(frame.intrinsics.width * frame.intrinsics.height for frame in frames),
        segments=len({frame.segment for frame in frames}),
        neighbors=tuple(blocks[i].name for i in meeting),
        overlap=float(overlaps.max()),
        warning=_warning(len(frames), typical),
    )


def _read_row(entry: Entry) -> BlockCoverage:
    counts = {key: entry.whole(key) for key in ("frames", "by_sight", "held_out", "thinned", "pixels", "segments")}
    return BlockCoverage(
        block=entry.text("block"),
        **counts,
        neighbors=entry.texts("neighbors"),
        overlap=entry.number("overlap"),
        warning=entry.text("warning") if entry.has("warning") else None,
    )


def _dropped(count: int) -> str | None:
    which = f"{count} more blocks" if count > 1 else "1 more block"
    return f"{which} of the street map left out: no frame falls in, or few that others hold" if count else None


def _warning(frames: int, typical: float) -> str | None:
    if frames < STARVED:
        return f"starved: {frames} frames train it, fewer than {STARVED}; enlarge it or remove it"
    if frames > OVERFULL * typical:
        return f"overfull: {frames} frames, {frames / typical:.1f} times the median; divide it"
    return None
