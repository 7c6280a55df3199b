"""The file of reconciled poses (`poses.json` of a run)."""

from pathlib import Path

from blocknerf.capture.json_reader import JsonReader
from blocknerf.capture.pose_averaging import PoseAverage, PoseResidual
from blocknerf.capture.pose_corrections import PoseCorrections, corrections_to_json, open_reader, read_correction_list
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import read_transform, transform_to_json
from blocknerf.files import format_json, write_atomic

POSE_AVERAGE_FORMAT = "blocknerf.pose-average/1"


def write_pose_average(found: PoseAverage, path: Path) -> None:
    """Write a run's `poses.json`, whole or not at all. Shifts are in world units, turns in degrees."""
    document = {
        "format": POSE_AVERAGE_FORMAT,
        "segment_length": found.trajectory.segment_length,
        "pose_corrections": corrections_to_json(found.trajectory.corrections),
        "block_alignments": [
            {"block": name, **transform_to_json(motion)} for name, motion in found.block_alignments.items()
        ],
        "residuals": [
            {
                "block": each.block,
                "segment": each.pose_segment.segment,
                "pose_segment": each.pose_segment.number,
                "frames": each.frames,
                "translation": each.translation,
                "rotation_deg": each.rotation_deg,
            }
            for each in found.residuals
        ],
    }
    write_atomic(path, format_json(document))


def read_pose_average(path: Path) -> PoseAverage:
    """Read a run's `poses.json`, strictly.

    Raises:
        CaptureError: the file is missing, broken or of another format.
    """
    entry = open_reader(path, POSE_AVERAGE_FORMAT, "run 'blocknerf align' again")
    trajectory = PoseCorrections(segment_length=entry.number("segment_length"), corrections=read_correction_list(entry))
    places = {}
    for item in entry.objects("block_alignments"):
        places[item.text("block")] = read_transform(item)
        item.reject_unknown()
    disagreements = tuple(_read_residual(item) for item in entry.objects("residuals"))
    entry.reject_unknown()
    return PoseAverage(trajectory=trajectory, block_alignments=places, residuals=disagreements)


def _read_residual(entry: JsonReader) -> PoseResidual:
    found = PoseResidual(
        block=entry.text("block"),
        pose_segment=PoseSegment(segment=entry.text("segment"), number=entry.int_("pose_segment")),
        frames=entry.int_("frames"),
        translation=entry.number("translation"),
        rotation_deg=entry.number("rotation_deg"),
    )
    entry.reject_unknown()
    return found
