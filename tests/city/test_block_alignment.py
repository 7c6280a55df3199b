"""Cameras as a block sees them: photographs from where it learned they stand, others through its place."""

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

KNOWN, COMMON, UNKNOWN = (PoseSegment(segment=name) for name in ("known", "common", "unknown"))
OWN, SHARED, PLACE = (PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(x, 0.0, 0.0)) for x in (1.0, 10.0, 100.0))


def offsets(stretch: PoseSegment, motion: PivotTransform) -> PoseCorrections:
    return PoseCorrections(corrections=(PoseCorrection(pose_segment=stretch, frames=3, motion=motion),))


def camera() -> Cameras:
    pose = look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=8, height=8)


def moved_by(refinement: BlockAlignment, stretch: PoseSegment | None) -> float:
    return float(refinement.to_block_frame(camera(), stretch).centers[0, 0])


def test_each_camera_is_moved_by_what_is_known_of_it() -> None:
    known = BlockAlignment(
        pose_corrections=offsets(KNOWN, OWN), trajectory=offsets(COMMON, SHARED), block_from_world=PLACE
    )
    assert moved_by(known, KNOWN) == 1.0
    assert moved_by(known, COMMON) == 110.0
    assert moved_by(known, UNKNOWN) == moved_by(known, None) == 100.0


def test_before_blocks_are_reconciled_only_their_own_photographs_are_moved() -> None:
    known = BlockAlignment(pose_corrections=offsets(KNOWN, OWN))
    assert moved_by(known, KNOWN) == 1.0
    assert moved_by(known, COMMON) == moved_by(known, None) == 0.0


def test_a_run_is_read_as_far_as_it_is_refined(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert load_alignments(run)("b000") is None
    write_corrections(offsets(KNOWN, OWN), run.pose_corrections("b000"))
    assert load_alignments(run)("b000") == BlockAlignment(pose_corrections=offsets(KNOWN, OWN))
    common = offsets(COMMON, SHARED)
    write_pose_average(PoseAverage(trajectory=common, block_alignments={"b000": PLACE}, residuals=()), run.poses)
    read = load_alignments(run)
    assert read("b000") == BlockAlignment(
        pose_corrections=offsets(KNOWN, OWN), trajectory=common, block_from_world=PLACE
    )
    assert read("b001") is None
