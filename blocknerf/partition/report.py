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
from blocknerf.capture.json_reader import JsonReader
from blocknerf.errors import RunError
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import FrameAssignment

if TYPE_CHECKING:
    from rich.table import Table

COVERAGE_FORMAT = "blocknerf.coverage/2"
MIN_FRAMES = 16
"""Frames below which a field has little to go by."""
MAX_FRAMES_RATIO = 4.0
"""Times the median number of frames; such a block takes that much longer to see each pixel once."""
MIN_OVERLAP = 0.1
"""Blocks that share at least this part of a diameter are neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCoverage:
    """The figures of one block."""

    block: str
    frames: int
    """Frames that train it."""
    visible_from_outside: int
    """How many of these stand outside and look in."""
    test_frames: int
    skipped_static: int
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
    unused_frames: int
    """Frames that neither train a block nor are held out: orphans, where allowed, and those thinned out."""
    blocks: tuple[BlockCoverage, ...]
    dropped_blocks: int = 0
    """Blocks of a street map that were left out: no frame falls into them, or a few that others hold as well."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"block {block.block}: {block.warning}" for block in self.blocks if block.warning)


def coverage(
    capture: Capture, blocks: Sequence[Block], members: Sequence[FrameAssignment], dropped: int = 0
) -> Coverage:
    """The coverage report of a partition; `members` in the order of `blocks`."""
    used = {i for member in members for i in (*member.frames, *member.test_frames)}
    overlaps = overlap_fractions(blocks)
    typical = median(len(member.frames) for member in members)
    rows = [_row(capture, blocks, member, overlaps[i], typical) for i, member in enumerate(members)]
    return Coverage(
        frames=len(capture), unused_frames=len(capture) - len(used), blocks=tuple(rows), dropped_blocks=dropped
    )


def overlap_fractions(blocks: Sequence[Block]) -> Float[Tensor, "blocks blocks"]:
    """Share of the smaller diameter of each two blocks that both cover, along the line between them; 0 of itself.

    >>> street = [Block(name=f"b{i}", origin=(10.0 * i, 0.0, 0.0), radius=10.0) for i in range(2)]
    >>> overlap_fractions(street).tolist()
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
    head = {
        "format": COVERAGE_FORMAT,
        "parameters": parameters,
        "frames": report.frames,
        "unused_frames": report.unused_frames,
    }
    head["dropped_blocks"] = report.dropped_blocks
    write_atomic(path, format_json({**head, "warnings": list(report.warnings), "blocks": rows}))


def read_coverage(path: Path) -> Coverage:
    """Read `coverage.json`, but for the parameters.

    Raises:
        RunError: it is missing, broken or of another format; the message names file, key and remedy.
    """
    remedy = "partition the capture again into a new run folder"
    entry = JsonReader(read_json(path, "coverage"), str(path), remedy=remedy, error=RunError)
    check_format_version(entry.text("format"), COVERAGE_FORMAT, path, remedy)
    return Coverage(
        frames=entry.int_("frames"),
        unused_frames=entry.int_("unused_frames"),
        blocks=tuple(_read_row(item) for item in entry.objects("blocks")),
        dropped_blocks=entry.int_("dropped_blocks"),
    )


def coverage_table(report: Coverage) -> "Table":
    """The figures as a table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, caption=_dropped(report.dropped_blocks), caption_justify="left")
    for title in (
        "block",
        "frames",
        "by sight",
        "held out",
        "skipped_static",
        "Mpix",
        "segments",
        "overlap",
        "neighbors",
    ):
        table.add_column(title, justify="left" if title == "block" else "right")
    for row in report.blocks:
        counts = [row.frames, row.visible_from_outside, row.test_frames, row.skipped_static]
        others = [f"{row.pixels / 1e6:.1f}", str(row.segments), f"{row.overlap:.0%}", str(len(row.neighbors))]
        table.add_row(row.block, *map(str, counts), *others, style="yellow" if row.warning else None)
    return table


def _row(
    capture: Capture,
    blocks: Sequence[Block],
    member: FrameAssignment,
    overlaps: Float[Tensor, "blocks"],
    typical: float,
) -> BlockCoverage:
    frames = [capture.frames[i] for i in member.frames]
    meeting = [i for i in overlaps.argsort(descending=True).tolist() if overlaps[i] >= MIN_OVERLAP]
    return BlockCoverage(
        block=member.block,
        frames=len(frames),
        visible_from_outside=member.reasons.count("visible"),
        test_frames=len(member.test_frames),
        skipped_static=len(member.skipped_static),
        pixels=sum(frame.intrinsics.width * frame.intrinsics.height for frame in frames),
        segments=len({frame.segment for frame in frames}),
        neighbors=tuple(blocks[i].name for i in meeting),
        overlap=float(overlaps.max()),
        warning=_warning(len(frames), typical),
    )


def _read_row(entry: JsonReader) -> BlockCoverage:
    counts = {
        key: entry.int_(key)
        for key in ("frames", "visible_from_outside", "test_frames", "skipped_static", "pixels", "segments")
    }
    return BlockCoverage(
        block=entry.text("block"),
        **counts,
        neighbors=entry.texts("neighbors"),
        overlap=entry.number("overlap"),
        warning=entry.text("warning") if entry.optional("warning") else None,
    )


def _dropped(count: int) -> str | None:
    which = f"{count} more blocks" if count > 1 else "1 more block"
    return f"{which} of the street map left out: no frame falls in, or few that others hold" if count else None


def _warning(frames: int, typical: float) -> str | None:
    if frames < MIN_FRAMES:
        return f"starved: {frames} frames train it, fewer than {MIN_FRAMES}; enlarge it or remove it"
    if frames > MAX_FRAMES_RATIO * typical:
        return f"overfull: {frames} frames, {frames / typical:.1f} times the median; divide it"
    return None
