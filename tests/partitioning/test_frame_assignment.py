"""Frame assignment: training frames, test frames, static frames, and errors."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.errors import BlockNerfError, PlacementError, RunError
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.frame_assignment import FrameAssignment, assign_frames, read_assignment, write_assignment
from blocknerf.partitioning.placement import place_blocks

STREET = torch.stack([torch.arange(81.0), torch.zeros(81)], -1)


def block(x: float, radius: float, name: str = "b000") -> Block:
    return Block(name=name, origin=(x, 0.0, 2.0), radius=radius)


def frames_by_reason(assignment: FrameAssignment, reason: str) -> list[int]:
    """Return the frames assigned for this reason."""
    return [i for i, other in zip(assignment.frames, assignment.reasons, strict=True) if other == reason]


def test_frames_inside_a_block_train_it(drive) -> None:
    first, second = assign_frames(drive(STREET), [block(20, 25, "a"), block(60, 25, "b")], test_every=0)
    # Frames up to a tenth of the radius outside count; no other frame sees enough from outside.
    assert set(frames_by_reason(first, "visible")) <= {48, 49, 50}
    assert frames_by_reason(first, "position") == list(range(48))
    assert frames_by_reason(second, "position")[0] == 33
    assert first.test_frames == first.skipped_static == ()


def test_outside_frames_are_assigned_if_they_look_in(drive, with_points) -> None:
    points = np.stack([np.linspace(-30, 110, 281), np.tile([-3.0, 3.0], 141)[:281], np.full(281, 2.0)], -1)
    (assignment, _) = assign_frames(
        drive(STREET, **with_points(points)), [block(40, 15), block(40, 60, "all")], test_every=0
    )
    assert frames_by_reason(assignment, "position") == list(range(24, 57))
    outside_frames = frames_by_reason(assignment, "visible")
    assert outside_frames
    assert all(17 <= i < 24 for i in outside_frames)


def test_outside_frames_are_at_most_as_many_as_inside_ones(drive, with_points) -> None:
    points = np.stack([np.linspace(39, 41, 50), np.linspace(-1, 1, 50), np.full(50, 2.0)], -1)
    outside_positions = torch.cat([torch.linspace(21, 25, 21), torch.tensor([39.0, 39.5])])
    path = torch.stack([outside_positions, torch.zeros(23)], -1)
    (assignment, _) = assign_frames(
        drive(path, **with_points(points)), [block(40, 13), block(30, 60, "all")], test_every=0
    )
    assert assignment.reasons.count("position") == 2
    assert assignment.reasons.count("visible") == 2


def test_aerial_frames_are_assigned_by_visibility(orbit, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-50, 250, 151), np.linspace(-60, 60, 61)), np.zeros((61, 151))], -1)
    eyes = torch.tensor([[x, 0.0, 40.0] for x in range(0, 180, 20)])
    # All are tilted forward: each sees the ground 25 m ahead of it.
    capture = orbit(eyes, torch.zeros(3), **with_points(ground.reshape(-1, 3)))
    poses = [orbit(eye[None], eye + torch.tensor([25.0, 0.0, -40.0])).frames[0].camera_to_world for eye in eyes]
    capture = replace(
        capture,
        frames=tuple(replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, poses, strict=True)),
    )
    near, far = assign_frames(capture, [block(40, 45, "near"), block(140, 45, "far")], test_every=0)
    assert set(near.reasons) == set(far.reasons) == {"visible"}
    assert 4 not in near.frames  # It is inside the near block but looks at the far one.
    assert 4 in far.frames


def test_aerial_frame_without_visible_blocks_is_assigned_by_position(orbit, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-50, 250, 151), np.linspace(-60, 60, 61)), np.zeros((61, 151))], -1)
    eyes = torch.tensor([[x, 0.0, 40.0] for x in range(0, 180, 20)])
    capture = orbit(eyes, torch.zeros(3), **with_points(ground.reshape(-1, 3)))
    targets = [eye + torch.tensor([1.0, 0.0, 40.0 if i == 2 else -40.0]) for i, eye in enumerate(eyes)]
    poses = [orbit(eye[None], aim).frames[0].camera_to_world for eye, aim in zip(eyes, targets, strict=True)]
    frames = (replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, poses, strict=True))
    near, far = assign_frames(
        replace(capture, frames=tuple(frames)), [block(40, 45, "near"), block(140, 45, "far")], test_every=0
    )
    assert frames_by_reason(near, "position") == [2]
    assert frames_by_reason(far, "position") == []


def test_test_frames_train_no_block(drive) -> None:
    capture = drive(STREET)
    assignments = assign_frames(capture, place_blocks(capture, radius=20.0), test_every=8)
    test_frames = {i for i in range(81) if i % 8 == 4}
    assert {i for assignment in assignments for i in assignment.test_frames} == test_frames
    assert not any(test_frames & set(assignment.frames) for assignment in assignments)


def test_static_frames_are_skipped_but_test_frames_are_kept(drive) -> None:
    path = torch.cat([STREET[:40], STREET[40] + torch.arange(1, 41)[:, None] * torch.tensor([1e-3, 0.0]), STREET[41:]])
    (assignment,) = assign_frames(drive(path), [block(40, 45)], test_every=8)
    assert len(assignment.skipped_static) > 30
    assert all(40 < i < 81 for i in assignment.skipped_static)
    assert assignment.test_frames == tuple(range(4, len(path), 8))
    assert sorted(assignment.frames + assignment.test_frames + assignment.skipped_static) == list(range(len(path)))


def test_frame_in_no_block_is_named_unless_allowed(drive) -> None:
    with pytest.raises(PlacementError, match=r"frames frame37, frame38, frame39 and 41 more: in no block"):
        assign_frames(drive(STREET), [block(11, 23)], test_every=0)
    (assignment,) = assign_frames(drive(STREET), [block(11, 23)], test_every=0, allow_unassigned=True)
    assert assignment.frames[-1] == 36


def test_empty_block_is_named(drive) -> None:
    with pytest.raises(PlacementError, match="block far: no training frames"):
        assign_frames(drive(STREET), [block(40, 45), block(900, 5, "far")])


@pytest.mark.parametrize("test_every", [1, -8])
def test_holding_out_all_frames_raises(drive, test_every: int) -> None:
    with pytest.raises(BlockNerfError, match="test-every"):
        assign_frames(drive(STREET), [block(40, 45)], test_every=test_every)


def test_frame_order_does_not_matter(drive) -> None:
    capture = drive(STREET)
    order = torch.randperm(81, generator=torch.Generator().manual_seed(0)).tolist()
    blocks = place_blocks(capture, radius=20.0)
    for original, shuffled in zip(
        assign_frames(capture, blocks, test_every=0),
        assign_frames(capture.select(order), blocks, test_every=0),
        strict=True,
    ):
        assert sorted(order[i] for i in shuffled.frames) == list(original.frames)


def test_a_thousand_frames_and_many_blocks_take_seconds(drive, with_points) -> None:
    path = torch.stack([torch.arange(1_000.0) * 0.3, 30 * torch.sin(torch.arange(1_000.0) / 300)], -1)
    points = np.random.default_rng(0).uniform([0, -60, 0], [3000, 60, 8], (40_000, 3))
    capture = drive(path, **with_points(points))
    start = time.process_time()
    blocks = place_blocks(capture, radius=30.0)
    assignments = assign_frames(capture, blocks)
    assert len(blocks) >= 9
    assert len(assignments) == len(blocks)
    assert time.process_time() - start < 20


ASSIGNMENT = FrameAssignment(
    block="b007", frames=(0, 2), reasons=("position", "visible"), test_frames=(1,), skipped_static=(3,)
)


def test_assignment_round_trips(drive, tmp_path: Path) -> None:
    capture = drive(STREET)
    write_assignment(ASSIGNMENT, capture, tmp_path / "frames.json")
    assert read_assignment(tmp_path / "frames.json", capture) == ASSIGNMENT
    assert read_assignment(tmp_path / "frames.json") == ASSIGNMENT
    assert json.loads((tmp_path / "frames.json").read_text())["frames"][1] == {
        "index": 2, "name": "frame2", "reason": "visible",
    }  # fmt: skip


BROKEN = {
    "format": ({"format": "blocknerf.frame-assignment/9"}, "is newer than this version reads"),
    "no frames": ({"frames": None}, "frames is None, not a list"),
    "reason": (
        {"frames": [{"index": 0, "name": "frame0", "reason": "random"}]},
        "reason is 'random', not a known value; correct it, or partition again",
    ),
    "name": ({"test_frames": [{"index": 1, "name": "frame7"}]}, "is not number 1"),
    "index": ({"test_frames": [{"index": -1, "name": "frame7"}]}, "not a whole number"),
    "beyond": ({"skipped_static": [{"index": 81, "name": "frame81"}]}, "is not number 81"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_assignment_raises(drive, tmp_path: Path, name: str) -> None:
    capture, path = drive(STREET), tmp_path / "frames.json"
    write_assignment(ASSIGNMENT, capture, path)
    change, message = BROKEN[name]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=message) as raised:
        read_assignment(path, capture)
    assert "\n" not in str(raised.value)


def test_missing_key_is_named(drive, tmp_path: Path) -> None:
    path = tmp_path / "frames.json"
    write_assignment(ASSIGNMENT, drive(STREET), path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: document[key] for key in document if key != "skipped_static"}))
    with pytest.raises(RunError, match="skipped_static is missing"):
        read_assignment(path)
