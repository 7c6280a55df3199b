"""Pose corrections: one rigid transform per pose segment, and their file."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.pose_segments import PoseSegment, pose_segments
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import CaptureError
from blocknerf.geometry import compose
from blocknerf.json_file import Count, JsonFile, Number, PositiveCount, Record, Vec3
from blocknerf.values import format_value


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseCorrection:
    """Rigid correction of all cameras of one pose segment."""

    pose_segment: PoseSegment
    frames: int
    """Number of images that it was learned from."""
    motion: PivotTransform


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseCorrections:
    """Pose corrections of a block or of a whole run."""

    segment_length: float = 0.0
    """Approximate length of pose segments, in world units; 0 for whole segments."""
    corrections: tuple[PoseCorrection, ...] = ()

    def of(self, pose_segment: PoseSegment) -> PivotTransform | None:
        """Return the correction of a pose segment, or None if it has none."""
        return next((item.motion for item in self.corrections if item.pose_segment == pose_segment), None)


def apply_corrections(capture: Capture, corrections: PoseCorrections) -> Capture:
    """Return the capture with corrected poses; frames without a correction keep their pose."""
    motions = {item.pose_segment: item.motion.matrix for item in corrections.corrections}
    frames = []
    for frame, pose_segment in zip(capture.frames, pose_segments(capture, corrections.segment_length), strict=True):
        if pose_segment in motions:
            moved = compose(motions[pose_segment], torch.tensor(frame.camera_to_world, dtype=torch.float64))
            frame = replace(frame, camera_to_world=pose_from_flat(moved.flatten().tolist()))
        frames.append(frame)
    return replace(capture, frames=tuple(frames))


class CorrectionRecord(Record, frozen=True, kw_only=True):
    """A pose correction in a file."""

    segment: str
    pose_segment: Count
    frames: PositiveCount
    pivot: Vec3
    rotation: Vec3
    translation: Vec3

    @classmethod
    def of(cls, item: PoseCorrection) -> "CorrectionRecord":
        """Return the record of a correction."""
        pose_segment = item.pose_segment
        return cls(
            segment=pose_segment.segment, pose_segment=pose_segment.number, frames=item.frames, **asdict(item.motion)
        )

    @property
    def correction(self) -> PoseCorrection:
        """The correction."""
        motion = PivotTransform(pivot=self.pivot, rotation=self.rotation, translation=self.translation)
        pose_segment = PoseSegment(segment=self.segment, number=self.pose_segment)
        return PoseCorrection(pose_segment=pose_segment, frames=self.frames, motion=motion)


CorrectionRecords = Annotated[list[CorrectionRecord], msgspec.Meta(min_length=1)]


class _CorrectionsRecord(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="format", tag="blocknerf.pose-corrections/1"
):
    block: str | None = None
    segment_length: Number
    pose_corrections: CorrectionRecords


_FILE = JsonFile(content=_CorrectionsRecord, what="poses", remedy="train the block again", error=CaptureError)


def write_corrections(corrections: PoseCorrections, path: Path, block: str | None = None) -> None:
    """Write a block's `pose_corrections.json` atomically; `block` guards against reading another block's file."""
    records = [CorrectionRecord.of(item) for item in corrections.corrections]
    _FILE.write(
        _CorrectionsRecord(block=block, segment_length=corrections.segment_length, pose_corrections=records), path
    )


def read_corrections(path: Path) -> PoseCorrections:
    """Read a block's `pose_corrections.json` strictly.

    Raises:
        CaptureError: the file is missing, broken, of another format or of another block.
    """
    record = _FILE.read(path)
    if record.block not in (None, path.parent.name):
        raise CaptureError(f"{path}: block is {format_value(record.block)}, another block; train the block again")
    corrections = tuple(item.correction for item in record.pose_corrections)
    return PoseCorrections(segment_length=record.segment_length, corrections=corrections)
