"""Which frames join a block, which are set aside, and what is refused."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.errors import BlockNerfError, PlacementError, RunError
from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import FrameAssignment, assign_frames, read_assignment, write_assignment
from blocknerf.partition.placement import place_blocks

STREET = torch.stack([torch.arange(81.0), torch.zeros(81)], -1)


def block(x: float, radius: float, name: str = "b000") -> Block:
    return Block(name=name, origin=(x, 0.0, 2.0), radius=radius)


def joined(member: FrameAssignment, why: str) -> list[int]:
    """Frames that joined for that reason."""
    return [i for i, reason in zip(member.frames, member.reasons, strict=True) if reason == why]


def test_frames_that_stand_in_a_block_train_it(drive) -> None:
    first, second = assign_frames(drive(STREET), [block(20, 25, "a"), block(60, 25, "b")], test_every=0)
    # A tenth of the radius around the disc counts; nothing else sees enough from outside.
    assert set(joined(first, "visible")) <= {48, 49, 50}
    assert joined(first, "position") == list(range(48))
    assert joined(second, "position")[0] == 33
    assert first.test_frames == first.skipped_static == ()


def test_frames_just_outside_that_look_in_join_by_sight_but_not_those_that_look_out(drive, with_points) -> None:
    posts = np.stack([np.linspace(-30, 110, 281), np.tile([-3.0, 3.0], 141)[:281], np.full(281, 2.0)], -1)
    (member, _) = assign_frames(
        drive(STREET, **with_points(posts)), [block(40, 15), block(40, 60, "all")], test_every=0
    )
    assert joined(member, "position") == list(range(24, 57))
    seeing = joined(member, "visible")
    assert seeing
    assert all(17 <= i < 24 for i in seeing)


def test_no_more_join_by_sight_than_stand_inside(drive, with_points) -> None:
    posts = np.stack([np.linspace(39, 41, 50), np.linspace(-1, 1, 50), np.full(50, 2.0)], -1)
    crowd = torch.cat([torch.linspace(21, 25, 21), torch.tensor([39.0, 39.5])])
    path = torch.stack([crowd, torch.zeros(23)], -1)
    (member, _) = assign_frames(drive(path, **with_points(posts)), [block(40, 13), block(30, 60, "all")], test_every=0)
    assert member.reasons.count("position") == 2
    assert member.reasons.count("visible") == 2


def test_from_the_air_sight_decides_and_position_does_not(orbit, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-50, 250, 151), np.linspace(-60, 60, 61)), np.zeros((61, 151))], -1)
    eyes = torch.tensor([[x, 0.0, 40.0] for x in range(0, 180, 20)])
    # All lean forward: each sees the ground 25 m ahead of it.
    capture = orbit(eyes, torch.zeros(3), **with_points(ground.reshape(-1, 3)))
    ahead = [orbit(eye[None], eye + torch.tensor([25.0, 0.0, -40.0])).frames[0].camera_to_world for eye in eyes]
    capture = replace(
        capture,
        frames=tuple(replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, ahead, strict=True)),
    )
    near, far = assign_frames(capture, [block(40, 45, "near"), block(140, 45, "far")], test_every=0)
    assert set(near.reasons) == set(far.reasons) == {"visible"}
    assert 4 not in near.frames  # stands in it, and looks at the far block
    assert 4 in far.frames


def test_a_frame_from_the_air_that_sees_nothing_belongs_where_it_flies(orbit, with_points) -> None:
    ground = np.stack([*np.meshgrid(np.linspace(-50, 250, 151), np.linspace(-60, 60, 61)), np.zeros((61, 151))], -1)
    eyes = torch.tensor([[x, 0.0, 40.0] for x in range(0, 180, 20)])
    capture = orbit(eyes, torch.zeros(3), **with_points(ground.reshape(-1, 3)))
    aims = [eye + torch.tensor([1.0, 0.0, 40.0 if i == 2 else -40.0]) for i, eye in enumerate(eyes)]
    poses = [orbit(eye[None], aim).frames[0].camera_to_world for eye, aim in zip(eyes, aims, strict=True)]
    frames = (replace(frame, camera_to_world=pose) for frame, pose in zip(capture.frames, poses, strict=True))
    near, far = assign_frames(
        replace(capture, frames=tuple(frames)), [block(40, 45, "near"), block(140, 45, "far")], test_every=0
    )
    assert joined(near, "position") == [2]
    assert joined(far, "position") == []


def test_held_out_frames_are_set_aside_in_every_block(drive) -> None:
    capture = drive(STREET)
    members = assign_frames(capture, place_blocks(capture, radius=20.0), test_every=8)
    reserved = {i for i in range(81) if i % 8 == 4}
    assert {i for member in members for i in member.test_frames} == reserved
    assert not any(reserved & set(member.frames) for member in members)


def test_a_standing_vehicle_is_thinned_but_its_held_out_frames_stay(drive) -> None:
    path = torch.cat([STREET[:40], STREET[40] + torch.arange(1, 41)[:, None] * torch.tensor([1e-3, 0.0]), STREET[41:]])
    (member,) = assign_frames(drive(path), [block(40, 45)], test_every=8)
    assert len(member.skipped_static) > 30
    assert all(40 < i < 81 for i in member.skipped_static)
    assert member.test_frames == tuple(range(4, len(path), 8))
    assert sorted(member.frames + member.test_frames + member.skipped_static) == list(range(len(path)))


def test_a_frame_in_no_block_is_named_unless_allowed(drive) -> None:
    with pytest.raises(PlacementError, match=r"frames frame37, frame38, frame39 and 41 more: are in no block"):
        assign_frames(drive(STREET), [block(11, 23)], test_every=0)
    (member,) = assign_frames(drive(STREET), [block(11, 23)], test_every=0, allow_orphans=True)
    assert member.frames[-1] == 36


def test_an_empty_block_is_named(drive) -> None:
    with pytest.raises(PlacementError, match="block far: is without a frame"):
        assign_frames(drive(STREET), [block(40, 45), block(900, 5, "far")])


@pytest.mark.parametrize("test_every", [1, -8])
def test_holding_everything_out_is_refused(drive, test_every: int) -> None:
    with pytest.raises(BlockNerfError, match="test-every"):
        assign_frames(drive(STREET), [block(40, 45)], test_every=test_every)


def test_the_order_of_the_frames_does_not_matter(drive) -> None:
    capture = drive(STREET)
    order = torch.randperm(81, generator=torch.Generator().manual_seed(0)).tolist()
    blocks = place_blocks(capture, radius=20.0)
    for plain, shuffled in zip(
        assign_frames(capture, blocks, test_every=0),
        assign_frames(capture.select(order), blocks, test_every=0),
        strict=True,
    ):
        assert sorted(order[i] for i in shuffled.frames) == list(plain.frames)


def test_a_thousand_frames_and_many_blocks_take_seconds(drive, with_points) -> None:
    path = torch.stack([torch.arange(1_000.0) * 0.3, 30 * torch.sin(torch.arange(1_000.0) / 300)], -1)
    points = np.random.default_rng(0).uniform([0, -60, 0], [3000, 60, 8], (40_000, 3))
    capture = drive(path, **with_points(points))
    start = time.process_time()
    blocks = place_blocks(capture, radius=30.0)
    members = assign_frames(capture, blocks)
    assert len(blocks) >= 9
    assert len(members) == len(blocks)
    assert time.process_time() - start < 20


MEMBER = FrameAssignment(
    block="b007", frames=(0, 2), reasons=("position", "visible"), test_frames=(1,), skipped_static=(3,)
)


def test_a_membership_is_read_as_written(drive, tmp_path: Path) -> None:
    capture = drive(STREET)
    write_assignment(MEMBER, capture, tmp_path / "frames.json")
    assert read_assignment(tmp_path / "frames.json", capture) == MEMBER
    assert read_assignment(tmp_path / "frames.json") == MEMBER
    assert json.loads((tmp_path / "frames.json").read_text())["frames"][1] == {
        "index": 2, "name": "frame2", "reason": "visible",
    }  # fmt: skip


BROKEN = {
    "format": ({"format": "blocknerf.frame-assignment/9"}, "is newer than this version reads"),
    "no frames": ({"frames": None}, "frames is None, not a list"),
    "reason": (
        {"frames": [{"index": 0, "name": "frame0", "reason": "luck"}]},
        "reason is 'luck', none of position, visible",
    ),
    "name": ({"test_frames": [{"index": 1, "name": "frame7"}]}, "is not number 1"),
    "index": ({"test_frames": [{"index": -1, "name": "frame7"}]}, "not a whole number"),
    "beyond": ({"skipped_static": [{"index": 81, "name": "frame81"}]}, "is not number 81"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_membership_is_refused(drive, tmp_path: Path, name: str) -> None:
    capture, path = drive(STREET), tmp_path / "frames.json"
    write_assignment(MEMBER, capture, path)
    change, message = BROKEN[name]
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=message) as refused:
        read_assignment(path, capture)
    assert "\n" not in str(refused.value)


def test_a_missing_key_is_named(drive, tmp_path: Path) -> None:
    path = tmp_path / "frames.json"
    write_assignment(MEMBER, drive(STREET), path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: document[key] for key in document if key != "skipped_static"}))
    with pytest.raises(RunError, match="thinned is missing"):
        read_assignment(path)
