"""Cameras in a block's frame: the block's own corrections for its images, its alignment for other cameras."""

from pathlib import Path

import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.pose_averaging import PoseAverage
from blocknerf.capture.pose_averaging_file import write_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections, write_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.city.block_alignment import BlockAlignment, load_alignments
from blocknerf.city.run_folder import RunFolder

OWN, AVERAGED, OTHER = (PoseSegment(segment=name) for name in ("known", "common", "unknown"))
OWN_MOTION, AVERAGE_MOTION, BLOCK_FROM_WORLD = (
    PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(x, 0.0, 0.0)) for x in (1.0, 10.0, 100.0)
)


def corrections(segment: PoseSegment, motion: PivotTransform) -> PoseCorrections:
    return PoseCorrections(corrections=(PoseCorrection(pose_segment=segment, frames=3, motion=motion),))


def camera() -> Cameras:
    pose = look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=8, height=8)


def shift_of(alignment: BlockAlignment, segment: PoseSegment | None) -> float:
    return float(alignment.to_block_frame(camera(), segment).centers[0, 0])


def test_cameras_get_the_most_specific_correction() -> None:
    alignment = BlockAlignment(
        pose_corrections=corrections(OWN, OWN_MOTION),
        trajectory=corrections(AVERAGED, AVERAGE_MOTION),
        block_from_world=BLOCK_FROM_WORLD,
    )
    assert shift_of(alignment, OWN) == 1.0
    assert shift_of(alignment, AVERAGED) == 110.0
    assert shift_of(alignment, OTHER) == shift_of(alignment, None) == 100.0


def test_before_alignment_only_own_images_are_corrected() -> None:
    alignment = BlockAlignment(pose_corrections=corrections(OWN, OWN_MOTION))
    assert shift_of(alignment, OWN) == 1.0
    assert shift_of(alignment, AVERAGED) == shift_of(alignment, None) == 0.0


def test_load_alignments_of_a_partly_refined_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert load_alignments(run)("b000") is None
    write_corrections(corrections(OWN, OWN_MOTION), run.pose_corrections("b000"))
    assert load_alignments(run)("b000") == BlockAlignment(pose_corrections=corrections(OWN, OWN_MOTION))
    trajectory = corrections(AVERAGED, AVERAGE_MOTION)
    write_pose_average(
        PoseAverage(trajectory=trajectory, block_alignments={"b000": BLOCK_FROM_WORLD}, residuals=()), run.poses
    )
    load = load_alignments(run)
    assert load("b000") == BlockAlignment(
        pose_corrections=corrections(OWN, OWN_MOTION), trajectory=trajectory, block_from_world=BLOCK_FROM_WORLD
    )
    assert load("b001") is None
