"""Cameras as a block sees them: photographs from where it learned they stand, others through its place."""

from pathlib import Path

import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.capture.motion import Motion
from blocknerf.capture.offsets import PoseOffset, PoseOffsets, write_offsets
from blocknerf.capture.reconciled import write_reconciliation
from blocknerf.capture.reconciliation import Reconciliation
from blocknerf.capture.stretches import Stretch
from blocknerf.city.refinement import Refinement, open_refinements
from blocknerf.city.run_folder import RunFolder

KNOWN, COMMON, UNKNOWN = (Stretch(segment=name) for name in ("known", "common", "unknown"))
OWN, SHARED, PLACE = (Motion(pivot=(0.0, 0.0, 0.0), translation=(x, 0.0, 0.0)) for x in (1.0, 10.0, 100.0))


def offsets(stretch: Stretch, motion: Motion) -> PoseOffsets:
    return PoseOffsets(offsets=(PoseOffset(stretch=stretch, frames=3, motion=motion),))


def camera() -> Cameras:
    pose = look_at(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))
    return Cameras.pinhole(pose, focal=10.0, width=8, height=8)


def moved_by(refinement: Refinement, stretch: Stretch | None) -> float:
    return float(refinement.view(camera(), stretch).centers[0, 0])


def test_each_camera_is_moved_by_what_is_known_of_it() -> None:
    known = Refinement(offsets=offsets(KNOWN, OWN), trajectory=offsets(COMMON, SHARED), place=PLACE)
    assert moved_by(known, KNOWN) == 1.0
    assert moved_by(known, COMMON) == 110.0
    assert moved_by(known, UNKNOWN) == moved_by(known, None) == 100.0


def test_before_blocks_are_reconciled_only_their_own_photographs_are_moved() -> None:
    known = Refinement(offsets=offsets(KNOWN, OWN))
    assert moved_by(known, KNOWN) == 1.0
    assert moved_by(known, COMMON) == moved_by(known, None) == 0.0


def test_a_run_is_read_as_far_as_it_is_refined(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert open_refinements(run)("b000") is None
    write_offsets(offsets(KNOWN, OWN), run.offsets("b000"))
    assert open_refinements(run)("b000") == Refinement(offsets=offsets(KNOWN, OWN))
    common = offsets(COMMON, SHARED)
    write_reconciliation(Reconciliation(trajectory=common, places={"b000": PLACE}, disagreements=()), run.poses)
    read = open_refinements(run)
    assert read("b000") == Refinement(offsets=offsets(KNOWN, OWN), trajectory=common, place=PLACE)
    assert read("b001") is None
