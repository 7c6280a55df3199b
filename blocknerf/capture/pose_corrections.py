"""By how much poses were corrected: one rigid motion a stretch, and its file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.json_reader import JsonReader
from blocknerf.capture.pose_segments import PoseSegment, pose_segments
from blocknerf.capture.rigid import PivotTransform, read_transform, transform_to_json
from blocknerf.errors import CaptureError
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.geometry import compose
from blocknerf.values import format_value

POSES_FORMAT = "blocknerf.pose-corrections/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseCorrection:
    """How the cameras of one stretch are moved together."""

    pose_segment: PoseSegment
    frames: int
    """From how many photographs it was learned."""
    motion: PivotTransform


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseCorrections:
    """The offsets of a block, or of a whole run."""

    segment_length: float = 0.0
    """About how long stretches are, in world units; 0 for whole segments."""
    corrections: tuple[PoseCorrection, ...] = ()

    def of(self, stretch: PoseSegment) -> PivotTransform | None:
        """The motion of a stretch; None where it was not learned."""
        return next((offset.motion for offset in self.corrections if offset.pose_segment == stretch), None)


def apply_corrections(capture: Capture, offsets: PoseCorrections) -> Capture:
    """The capture with its frames' poses moved; those of a stretch without an offset stay."""
    motions = {offset.pose_segment: offset.motion.matrix for offset in offsets.corrections}
    frames = []
    for frame, stretch in zip(capture.frames, pose_segments(capture, offsets.segment_length), strict=True):
        if stretch in motions:
            moved = compose(motions[stretch], torch.tensor(frame.camera_to_world, dtype=torch.float64))
            frame = replace(frame, camera_to_world=pose_from_flat(moved.flatten().tolist()))
        frames.append(frame)
    return replace(capture, frames=tuple(frames))


def write_corrections(offsets: PoseCorrections, path: Path, block: str | None = None) -> None:
    """Write a block's `pose_corrections.json`, whole or not at all; with the block's name, another's file is told from it."""
    document = {
        "format": POSES_FORMAT,
        **({} if block is None else {"block": block}),
        "segment_length": offsets.segment_length,
        "pose_corrections": corrections_to_json(offsets.corrections),
    }
    write_atomic(path, format_json(document))


def read_corrections(path: Path) -> PoseCorrections:
    """Read a block's `pose_corrections.json`, strictly.

    Raises:
        CaptureError: the file is missing, broken, of another format or of another block.
    """
    entry = open_reader(path, POSES_FORMAT, "train the block again")
    if entry.optional("block", added=True) and entry.text("block") != path.parent.name:
        raise CaptureError(
            f"{entry.location('block')} is {format_value(entry.text('block'))}, another block; {entry.remedy}"
        )
    length, offsets = entry.number("segment_length"), read_correction_list(entry)
    entry.reject_unknown()
    return PoseCorrections(segment_length=length, corrections=offsets)


def open_reader(path: Path, expected: str, remedy: str) -> JsonReader:
    """The object of a file of poses, its format checked."""
    entry = JsonReader(read_json(path, "poses", CaptureError), str(path), remedy=remedy)
    check_format_version(entry.text("format"), expected, path, remedy, CaptureError)
    return entry


def corrections_to_json(offsets: Iterable[PoseCorrection]) -> list[dict[str, Any]]:
    """Offsets as plain numbers."""
    return [
        {
            "segment": offset.pose_segment.segment,
            "pose_segment": offset.pose_segment.number,
            "frames": offset.frames,
            **transform_to_json(offset.motion),
        }
        for offset in offsets
    ]


def read_correction_list(entry: JsonReader) -> tuple[PoseCorrection, ...]:
    """The offsets of an object that lists them.

    Raises:
        CaptureError: there are none, or one is broken or of no photographs.
    """
    found = tuple(_read_correction(item) for item in entry.objects("pose_corrections"))
    if not found:
        raise CaptureError(f"{entry.location('pose_corrections')} is empty; {entry.hint('list at least one')}")
    return found


def _read_correction(entry: JsonReader) -> PoseCorrection:
    stretch = PoseSegment(segment=entry.text("segment"), number=entry.int_("pose_segment"))
    found = PoseCorrection(pose_segment=stretch, frames=entry.int_("frames", least=1), motion=read_transform(entry))
    entry.reject_unknown()
    return found
