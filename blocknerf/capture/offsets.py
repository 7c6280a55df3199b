"""By how much poses were corrected: one rigid motion a stretch, and its file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.entry import Entry
from blocknerf.capture.frame import pose_rows
from blocknerf.capture.motion import Motion, motion_data, read_motion
from blocknerf.capture.stretches import Stretch, stretches
from blocknerf.errors import CaptureError
from blocknerf.files import check_format, format_json, read_json, write_atomic
from blocknerf.geometry import compose
from blocknerf.values import shown

POSES_FORMAT = "blocknerf.poses/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseOffset:
    """How the cameras of one stretch are moved together."""

    stretch: Stretch
    frames: int
    """From how many photographs it was learned."""
    motion: Motion


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseOffsets:
    """The offsets of a block, or of a whole run."""

    length: float = 0.0
    """About how long stretches are, in world units; 0 for whole segments."""
    offsets: tuple[PoseOffset, ...] = ()

    def of(self, stretch: Stretch) -> Motion | None:
        """The motion of a stretch; None where it was not learned."""
        return next((offset.motion for offset in self.offsets if offset.stretch == stretch), None)


def refined(capture: Capture, offsets: PoseOffsets) -> Capture:
    """The capture with its frames' poses moved; those of a stretch without an offset stay."""
    motions = {offset.stretch: offset.motion.matrix for offset in offsets.offsets}
    frames = []
    for frame, stretch in zip(capture.frames, stretches(capture, offsets.length), strict=True):
        if stretch in motions:
            moved = compose(motions[stretch], torch.tensor(frame.camera_to_world, dtype=torch.float64))
            frame = replace(frame, camera_to_world=pose_rows(moved.flatten().tolist()))
        frames.append(frame)
    return replace(capture, frames=tuple(frames))


def write_offsets(offsets: PoseOffsets, path: Path, block: str | None = None) -> None:
    """Write a block's `poses.json`, whole or not at all; with the block's name, another's file is told from it."""
    document = {
        "format": POSES_FORMAT,
        **({} if block is None else {"block": block}),
        "stretch_length": offsets.length,
        "offsets": offsets_data(offsets.offsets),
    }
    write_atomic(path, format_json(document))


def read_offsets(path: Path) -> PoseOffsets:
    """Read a block's `poses.json`, strictly.

    Raises:
        CaptureError: the file is missing, broken, of another format or of another block.
    """
    entry = open_entry(path, POSES_FORMAT, "train the block again")
    if entry.has("block", added=True) and entry.text("block") != path.parent.name:
        raise CaptureError(f"{entry.place('block')} is {shown(entry.text('block'))}, another block; {entry.remedy}")
    length, offsets = entry.number("stretch_length"), read_offset_list(entry)
    entry.finish()
    return PoseOffsets(length=length, offsets=offsets)


def open_entry(path: Path, expected: str, remedy: str) -> Entry:
    """The object of a file of poses, its format checked."""
    entry = Entry(read_json(path, "poses", CaptureError), str(path), remedy=remedy)
    check_format(entry.text("format"), expected, path, remedy, CaptureError)
    return entry


def offsets_data(offsets: Iterable[PoseOffset]) -> list[dict[str, Any]]:
    """Offsets as plain numbers."""
    return [
        {
            "segment": offset.stretch.segment,
            "stretch": offset.stretch.number,
            "frames": offset.frames,
            **motion_data(offset.motion),
        }
        for offset in offsets
    ]


def read_offset_list(entry: Entry) -> tuple[PoseOffset, ...]:
    """The offsets of an object that lists them.

    Raises:
        CaptureError: there are none, or one is broken or of no photographs.
    """
    found = tuple(_read_offset(item) for item in entry.objects("offsets"))
    if not found:
        raise CaptureError(f"{entry.place('offsets')} is empty; {entry.advice('list at least one')}")
    return found


def _read_offset(entry: Entry) -> PoseOffset:
    stretch = Stretch(segment=entry.text("segment"), number=entry.whole("stretch"))
    found = PoseOffset(stretch=stretch, frames=entry.whole("frames", least=1), motion=read_motion(entry))
    entry.finish()
    return found
