"""Coverage report of a partition: figures per block, and a warning if one has too few or too many frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from blocknerf.capture.capture import Capture
from blocknerf.json_file import Count, JsonFile, Number, Record
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.disc_index import overlapping_discs
from blocknerf.partitioning.frame_assignment import FrameAssignment

if TYPE_CHECKING:
    from rich.table import Table

MIN_FRAMES = 16
"""Minimum number of training frames of a block without a warning."""
MAX_FRAMES_RATIO = 4.0
"""Maximum ratio to the median number of frames; such a block takes that much longer per pass over its pixels."""
MIN_OVERLAP = 0.1
"""Blocks that overlap by at least this fraction of a diameter are neighbors."""


class BlockCoverage(Record, frozen=True, kw_only=True):
    """Coverage figures of one block."""

    block: str
    frames: Count
    """Training frames."""
    visible_from_outside: Count
    """Training frames of cameras outside the block."""
    test_frames: Count
    skipped_static: Count
    pixels: Count
    """Training pixels, at full resolution."""
    segments: Count
    """Number of segments of its frames."""
    neighbors: tuple[str, ...]
    overlap: Number
    """Overlap with the nearest neighbor, as a fraction of the diameter along the line between the origins."""
    warning: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Coverage figures of a partition."""

    frames: int
    """Frames of the capture."""
    unused_frames: int
    """Frames that neither train a block nor are held out: unassigned ones, where allowed, and skipped static ones."""
    blocks: tuple[BlockCoverage, ...]
    dropped_blocks: int = 0
    """Blocks of a street map that were dropped: no frame is in them, or only a few that other blocks have too."""

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"block {block.block}: {block.warning}" for block in self.blocks if block.warning)


class _CoverageRecord(Record, frozen=True, kw_only=True, tag_field="format", tag="blocknerf.coverage/2"):
    parameters: dict[str, Any]
    frames: Count
    unused_frames: Count
    dropped_blocks: Count
    warnings: tuple[str, ...]
    blocks: tuple[BlockCoverage, ...]


_FILE = JsonFile(content=_CoverageRecord, what="coverage", remedy="partition the capture again into a new run folder")


def coverage(
    capture: Capture, blocks: Sequence[Block], assignments: Sequence[FrameAssignment], dropped: int = 0
) -> Coverage:
    """Return the coverage of a partition; `assignments` in the order of `blocks`."""
    used_frames = {i for assignment in assignments for i in (*assignment.frames, *assignment.test_frames)}
    pixels = np.array([lens.width * lens.height for lens in capture.column("intrinsics")])
    segment_numbers = {segment: i for i, segment in enumerate(capture.segments)}
    segments = np.array([segment_numbers[segment] for segment in capture.column("segment")])
    median_frames = median(len(assignment.frames) for assignment in assignments)
    block_coverages = [
        _row(pixels, segments, blocks, assignment, overlaps, median_frames)
        for assignment, overlaps in zip(assignments, overlap_fractions(blocks), strict=True)
    ]
    return Coverage(
        frames=len(capture),
        unused_frames=len(capture) - len(used_frames),
        blocks=tuple(block_coverages),
        dropped_blocks=dropped,
    )


def overlap_fractions(blocks: Sequence[Block]) -> Iterator[dict[int, float]]:
    """Yield the overlaps of each block with others, as a fraction of the smaller diameter, largest first.

    Keys are the indices of the other blocks; those without overlap are left out.

    >>> street = [Block(name=f"b{i}", origin=(10.0 * i, 0.0, 0.0), radius=10.0) for i in range(3)]
    >>> list(overlap_fractions(street))
    [{1: 0.5}, {0: 0.5, 2: 0.5}, {1: 0.5}]
    """
    radii = np.array([block.radius for block in blocks])
    for radius, (others, distances) in zip(radii, overlapping_discs(blocks), strict=True):
        diameters = 2 * np.minimum(radius, radii[others])
        fractions = (np.minimum(radius + radii[others] - distances, diameters) / diameters).astype(np.float32)
        order = (-fractions).argsort(kind="stable")
        yield dict(zip(others[order].tolist(), fractions[order].tolist(), strict=True))


def write_coverage(report: Coverage, path: Path, parameters: dict[str, Any]) -> None:
    """Write `coverage.json`; `parameters` are the options of the partition."""
    record = _CoverageRecord(
        parameters=parameters,
        frames=report.frames,
        unused_frames=report.unused_frames,
        dropped_blocks=report.dropped_blocks,
        warnings=report.warnings,
        blocks=report.blocks,
    )
    _FILE.write(record, path)


def read_coverage(path: Path) -> Coverage:
    """Read `coverage.json`, without the parameters.

    Raises:
        RunError: the file is missing, broken or of another format; the message names file, key and hint.
    """
    record = _FILE.read(path)
    return Coverage(
        frames=record.frames,
        unused_frames=record.unused_frames,
        blocks=record.blocks,
        dropped_blocks=record.dropped_blocks,
    )


def read_parameters(path: Path) -> dict[str, Any]:
    """Return the options of the partition from `coverage.json`.

    Raises:
        RunError: as for `read_coverage`.
    """
    return _FILE.read(path).parameters


def coverage_table(report: Coverage) -> "Table":
    """Return the figures as a table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, caption=_dropped(report.dropped_blocks), caption_justify="left")
    for title in (
        "block",
        "frames",
        "from outside",
        "held out",
        "static",
        "Mpix",
        "segments",
        "overlap",
        "neighbors",
    ):
        table.add_column(title, justify="left" if title == "block" else "right")
    for block in report.blocks:
        counts = [block.frames, block.visible_from_outside, block.test_frames, block.skipped_static]
        other_columns = [
            f"{block.pixels / 1e6:.1f}",
            str(block.segments),
            f"{block.overlap:.0%}",
            str(len(block.neighbors)),
        ]
        table.add_row(block.block, *map(str, counts), *other_columns, style="yellow" if block.warning else None)
    return table


def _row(
    pixels: Int[np.ndarray, "frames"],
    segments: Int[np.ndarray, "frames"],
    blocks: Sequence[Block],
    assignment: FrameAssignment,
    overlaps: Mapping[int, float],
    median_frames: float,
) -> BlockCoverage:
    frames = list(assignment.frames)
    return BlockCoverage(
        block=assignment.block,
        frames=len(frames),
        visible_from_outside=assignment.reasons.count("visible"),
        test_frames=len(assignment.test_frames),
        skipped_static=len(assignment.skipped_static),
        pixels=int(pixels[frames].sum()),
        segments=len(np.unique(segments[frames])),
        neighbors=tuple(blocks[i].name for i, overlap in overlaps.items() if overlap >= MIN_OVERLAP),
        overlap=max(overlaps.values(), default=0.0),
        warning=_warning(len(frames), median_frames),
    )


def _dropped(count: int) -> str | None:
    blocks = f"{count} more blocks" if count > 1 else "1 more block"
    return f"{blocks} of the street map dropped: no frame in them, or few that other blocks have" if count else None


def _warning(frames: int, median_frames: float) -> str | None:
    if frames < MIN_FRAMES:
        return f"starved: {frames} frames train it, fewer than {MIN_FRAMES}; enlarge it or remove it"
    if frames > MAX_FRAMES_RATIO * median_frames:
        return f"overfull: {frames} frames, {frames / median_frames:.1f} times the median; divide it"
    return None
