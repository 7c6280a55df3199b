"""File of the averaged poses (`poses.json` of a run)."""

from dataclasses import asdict
from pathlib import Path

from blocknerf.capture.pose_averaging import PoseAverage, PoseResidual
from blocknerf.capture.pose_corrections import CorrectionRecord, CorrectionRecords, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import CaptureError
from blocknerf.json_file import Count, JsonFile, Number, PositiveCount, Record, Vec3


class _AlignmentRecord(Record, frozen=True, kw_only=True):
    block: str
    pivot: Vec3
    rotation: Vec3
    translation: Vec3


class _ResidualRecord(Record, frozen=True, kw_only=True):
    block: str
    segment: str
    pose_segment: Count
    frames: PositiveCount
    translation: Number
    rotation_deg: Number


class _PoseAverageRecord(Record, frozen=True, kw_only=True, tag_field="format", tag="blocknerf.pose-average/1"):
    segment_length: Number
    pose_corrections: CorrectionRecords
    block_alignments: list[_AlignmentRecord]
    residuals: list[_ResidualRecord]


_FILE = JsonFile(content=_PoseAverageRecord, what="poses", remedy="run 'blocknerf align' again", error=CaptureError)


def write_pose_average(average: PoseAverage, path: Path) -> None:
    """Write a run's `poses.json` atomically; residuals are in world units and degrees."""
    record = _PoseAverageRecord(
        segment_length=average.trajectory.segment_length,
        pose_corrections=[CorrectionRecord.of(item) for item in average.trajectory.corrections],
        block_alignments=[
            _AlignmentRecord(block=name, **asdict(motion)) for name, motion in average.block_alignments.items()
        ],
        residuals=[
            _ResidualRecord(
                block=residual.block,
                segment=residual.pose_segment.segment,
                pose_segment=residual.pose_segment.number,
                frames=residual.frames,
                translation=residual.translation,
                rotation_deg=residual.rotation_deg,
            )
            for residual in average.residuals
        ],
    )
    _FILE.write(record, path)


def read_pose_average(path: Path) -> PoseAverage:
    """Read a run's `poses.json` strictly.

    Raises:
        CaptureError: the file is missing, broken or of another format.
    """
    record = _FILE.read(path)
    corrections = tuple(item.correction for item in record.pose_corrections)
    residuals = [
        PoseResidual(
            block=item.block,
            pose_segment=PoseSegment(segment=item.segment, number=item.pose_segment),
            frames=item.frames,
            translation=item.translation,
            rotation_deg=item.rotation_deg,
        )
        for item in record.residuals
    ]
    return PoseAverage(
        trajectory=PoseCorrections(segment_length=record.segment_length, corrections=corrections),
        block_alignments={
            item.block: PivotTransform(pivot=item.pivot, rotation=item.rotation, translation=item.translation)
            for item in record.block_alignments
        },
        residuals=tuple(residuals),
    )
