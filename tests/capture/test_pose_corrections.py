"""Rigid transforms, pose corrections and their file: round trips, corrected poses, and errors."""

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.pose_corrections import (
    CorrectionRecord,
    PoseCorrection,
    PoseCorrections,
    apply_corrections,
    read_corrections,
    write_corrections,
)
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import CaptureError
from blocknerf.geometry import compose, invert, is_rigid, se3_exp

number = st.floats(-100.0, 100.0, allow_subnormal=False)
triple = st.tuples(number, number, number)
MOTION = PivotTransform(pivot=(5.0, 1.0, 2.0), rotation=(0.0, 0.0, math.pi / 2), translation=(0.0, 0.5, 0.0))


@given(triple, st.tuples(*[st.floats(-1.7, 1.7)] * 3), triple)
@settings(max_examples=100, deadline=None)
def test_a_transform_round_trips_through_its_matrix(pivot: tuple, rotation: tuple, translation: tuple) -> None:
    motion = PivotTransform(pivot=pivot, rotation=rotation, translation=translation)
    assert is_rigid(motion.matrix)
    back = PivotTransform.of_matrix(motion.matrix, torch.tensor(pivot, dtype=torch.float64))
    assert back.rotation == pytest.approx(rotation, abs=1e-9)
    assert back.translation == pytest.approx(translation, abs=1e-9)
    elsewhere = PivotTransform.of_matrix(motion.matrix, torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(elsewhere.matrix, motion.matrix, atol=1e-9)


def test_the_rotation_vector_inverts_se3_exp() -> None:
    tangents = torch.rand(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3.4 - 1.7
    for tangent, matrix in zip(tangents, se3_exp(tangents), strict=True):
        motion = PivotTransform.of_matrix(matrix, torch.zeros(3, dtype=torch.float64))
        angle = float(tangent[3:].norm())
        assert motion.rotation_deg == pytest.approx(math.degrees(angle))
        assert motion.rotation == pytest.approx(tangent[3:].tolist(), abs=1e-9)


def test_the_pivot_moves_by_the_translation_alone() -> None:
    assert MOTION.matrix[:, :3] @ torch.tensor(MOTION.pivot).double() + MOTION.matrix[:, 3] == pytest.approx(
        torch.tensor([5.0, 1.5, 2.0]).double()
    )
    assert (MOTION.translation_norm, MOTION.rotation_deg) == (0.5, pytest.approx(90.0))


def capture() -> Capture:
    lens = Intrinsics(width=4, height=4, fx=4.0, fy=4.0, cx=2.0, cy=2.0)
    frames = []
    for i in range(6):
        pose = ((0.0, 0.0, 1.0, float(i)), (-1.0, 0.0, 0.0, 1.0), (0.0, -1.0, 0.0, 2.0))
        frames.append(
            Frame(name=f"{i}", image=f"{i}.png", intrinsics=lens, camera_to_world=pose, segment="ab"[i % 2], camera="0")
        )
    return Capture(image_dir=Path("anywhere"), frames=tuple(frames), is_metric=True, source="test")


def corrections() -> PoseCorrections:
    return PoseCorrections(
        corrections=(PoseCorrection(pose_segment=PoseSegment(segment="b"), frames=3, motion=MOTION),)
    )


def test_corrected_poses_equal_transformed_cameras() -> None:
    before, after = capture().cameras(), apply_corrections(capture(), corrections()).cameras()
    assert torch.equal(after.camera_to_world[::2], before.camera_to_world[::2])
    assert torch.allclose(after.camera_to_world[1::2], MOTION.apply(before[1::2]).camera_to_world)
    back = compose(invert(MOTION.matrix).expand(3, 3, 4), after.camera_to_world[1::2].double())
    assert torch.allclose(back, before.camera_to_world[1::2].double(), atol=1e-5)


def test_transformed_cameras_stay_on_their_device() -> None:
    """The meta device represents every device other than the CPU."""
    assert MOTION.apply(capture().cameras().to("meta")).camera_to_world.device.type == "meta"


def test_corrections_are_found_by_pose_segment() -> None:
    assert corrections().of(PoseSegment(segment="b")) == MOTION
    assert corrections().of(PoseSegment(segment="b", number=1)) is None


def test_corrections_round_trip_through_their_file(tmp_path: Path) -> None:
    stored = replace(corrections(), segment_length=2.5)
    write_corrections(stored, tmp_path / "pose_corrections.json")
    assert read_corrections(tmp_path / "pose_corrections.json") == stored


def correction_with(**changes: object) -> dict:
    (correction,) = corrections().corrections
    return msgspec.to_builtins(CorrectionRecord.of(correction)) | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "blocknerf.pose-corrections/9"},
            "format: blocknerf.pose-corrections/9 is newer than this version reads",
        ),
        ({"format": "other"}, "format: 'other' is not blocknerf.pose-corrections/1; train the block again"),
        ({"pose_corrections": 3}, "pose_corrections is 3, not a list; correct it, or train the block again"),
        (
            {"pose_corrections": []},
            r"pose_corrections is \[\], not a list of length >= 1; correct it, or train",
        ),
        (
            {"pose_corrections": [correction_with(frames=0)]},
            r"pose_corrections\[0\].frames is 0, not a whole number >= 1; correct",
        ),
        ({"pose_corrections": [{"segment": "b"}]}, r"pose_corrections\[0\].pose_segment is missing"),
        ({"more": 1}, "more is an unknown key; remove it, or train the block again"),
    ],
)
def test_broken_files_raise(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "pose_corrections.json"
    write_corrections(corrections(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CaptureError, match=message) as caught:
        read_corrections(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_transform_that_is_not_finite_raises(tmp_path: Path) -> None:
    path = tmp_path / "pose_corrections.json"
    write_corrections(corrections(), path)
    path.write_text(path.read_text().replace("0.5", "Infinity"))
    with pytest.raises(CaptureError, match=r"pose_corrections\[0\].translation\[1\] is not a finite number"):
        read_corrections(path)


def test_the_file_of_another_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "b000" / "pose_corrections.json"
    write_corrections(corrections(), path, block="b000")
    assert read_corrections(path) == corrections()
    path.write_text(path.read_text().replace('"b000"', '"b001"'))
    with pytest.raises(
        CaptureError, match=r"pose_corrections\.json: block is 'b001', another block; train the block again"
    ):
        read_corrections(path)
