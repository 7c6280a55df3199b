"""Pose corrections: one rigid transform per pose segment, and their file."""

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


def write_corrections(corrections: PoseCorrections, path: Path, block: str | None = None) -> None:
    """Write a block's `pose_corrections.json` atomically; `block` guards against reading another block's file."""
    document = {
        "format": POSES_FORMAT,
        **({} if block is None else {"block": block}),
        "segment_length": corrections.segment_length,
        "pose_corrections": corrections_to_json(corrections.corrections),
    }
    write_atomic(path, format_json(document))


def read_corrections(path: Path) -> PoseCorrections:
    """Read a block's `pose_corrections.json` strictly.

    Raises:
        CaptureError: the file is missing, broken, of another format or of another block.
    """
    entry = open_reader(path, POSES_FORMAT, "train the block again")
    if entry.optional("block", added=True) and entry.text("block") != path.parent.name:
        raise CaptureError(
            f"{entry.location('block')} is {format_value(entry.text('block'))}, another block; {entry.remedy}"
        )
    length, corrections = entry.number("segment_length"), read_correction_list(entry)
    entry.reject_unknown()
    return PoseCorrections(segment_length=length, corrections=corrections)


def open_reader(path: Path, expected: str, remedy: str) -> JsonReader:
    """Open a reader of a pose file after checking its format."""
    entry = JsonReader(read_json(path, "poses", CaptureError), str(path), remedy=remedy)
    check_format_version(entry.text("format"), expected, path, remedy, CaptureError)
    return entry


def corrections_to_json(corrections: Iterable[PoseCorrection]) -> list[dict[str, Any]]:
    """Return pose corrections as JSON data."""
    return [
        {
            "segment": item.pose_segment.segment,
            "pose_segment": item.pose_segment.number,
            "frames": item.frames,
            **transform_to_json(item.motion),
        }
        for item in corrections
    ]


def read_correction_list(entry: JsonReader) -> tuple[PoseCorrection, ...]:
    """Read the pose corrections listed in a JSON object.

    Raises:
        CaptureError: the list is empty, or an entry is broken or was learned from no image.
    """
    corrections = tuple(_read_correction(item) for item in entry.objects("pose_corrections"))
    if not corrections:
        raise CaptureError(f"{entry.location('pose_corrections')} is empty; {entry.hint('list at least one')}")
    return corrections


def _read_correction(entry: JsonReader) -> PoseCorrection:
    pose_segment = PoseSegment(segment=entry.text("segment"), number=entry.int_("pose_segment"))
    frames, motion = entry.int_("frames", least=1), read_transform(entry)
    entry.reject_unknown()
    return PoseCorrection(pose_segment=pose_segment, frames=frames, motion=motion)
