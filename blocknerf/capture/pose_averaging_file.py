"""File of the averaged poses (`poses.json` of a run)."""

from pathlib import Path

from blocknerf.capture.json_reader import JsonReader
from blocknerf.capture.pose_averaging import PoseAverage, PoseResidual
from blocknerf.capture.pose_corrections import PoseCorrections, corrections_to_json, open_reader, read_correction_list
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import read_transform, transform_to_json
from blocknerf.files import format_json, write_atomic

POSE_AVERAGE_FORMAT = "blocknerf.pose-average/1"


def write_pose_average(average: PoseAverage, path: Path) -> None:
    """Write a run's `poses.json` atomically; residuals are in world units and degrees."""
    document = {
        "format": POSE_AVERAGE_FORMAT,
        "segment_length": average.trajectory.segment_length,
        "pose_corrections": corrections_to_json(average.trajectory.corrections),
        "block_alignments": [
            {"block": name, **transform_to_json(motion)} for name, motion in average.block_alignments.items()
        ],
        "residuals": [
            {
                "block": residual.block,
                "segment": residual.pose_segment.segment,
                "pose_segment": residual.pose_segment.number,
                "frames": residual.frames,
                "translation": residual.translation,
                "rotation_deg": residual.rotation_deg,
            }
            for residual in average.residuals
        ],
    }
    write_atomic(path, format_json(document))


def read_pose_average(path: Path) -> PoseAverage:
    """Read a run's `poses.json` strictly.

    Raises:
        CaptureError: the file is missing, broken or of another format.
    """
    entry = open_reader(path, POSE_AVERAGE_FORMAT, "run 'blocknerf align' again")
    trajectory = PoseCorrections(segment_length=entry.number("segment_length"), corrections=read_correction_list(entry))
    alignments = {}
    for item in entry.objects("block_alignments"):
        alignments[item.text("block")] = read_transform(item)
        item.reject_unknown()
    residuals = tuple(_read_residual(item) for item in entry.objects("residuals"))
    entry.reject_unknown()
    return PoseAverage(trajectory=trajectory, block_alignments=alignments, residuals=residuals)


def _read_residual(entry: JsonReader) -> PoseResidual:
    residual = PoseResidual(
        block=entry.text("block"),
        pose_segment=PoseSegment(segment=entry.text("segment"), number=entry.int_("pose_segment")),
        frames=entry.int_("frames", 1),
        translation=entry.number("translation"),
        rotation_deg=entry.number("rotation_deg"),
    )
    entry.reject_unknown()
    return residual
