"""Block placement: its choice, its coverage of the capture, and its defaults on real captures."""

import inspect
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.capture import read_transforms
from blocknerf.errors import PlacementError
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.placement import check_coverage, covered_frames, place_blocks

STREET = torch.stack([torch.linspace(0, 80, 81), torch.zeros(81)], -1)
FIELD = torch.cartesian_prod(torch.linspace(0, 120, 7), torch.linspace(0, 90, 6), torch.tensor([40.0]))


def ring(count: int = 24) -> torch.Tensor:
    angle = torch.linspace(0, 5, count)
    return torch.stack([4 * angle.cos(), 4 * angle.sin(), 0.3 * angle], -1)


def test_auto_placement(drive, flight, orbit) -> None:
    assert place_blocks(drive(STREET)) == place_blocks(drive(STREET), "route")
    assert place_blocks(flight(FIELD)) == place_blocks(flight(FIELD), "grid")
    assert len(place_blocks(orbit(ring(), torch.tensor([0.0, 0.0, 0.5]), is_metric=False))) == 1


def test_object_and_its_cameras_are_inside_the_block(orbit) -> None:
    (block,) = place_blocks(orbit(ring(), torch.tensor([0.0, 0.0, 0.5]), is_metric=False))
    assert block.contains(torch.cat([ring(), torch.zeros(1, 3)])).all()
    assert block.radius < 5.5


def test_names_and_heights(drive, flight) -> None:
    blocks = place_blocks(drive(STREET))
    assert [block.name for block in blocks] == [f"b{i:03d}" for i in range(len(blocks))]
    assert all(block.origin[2] == pytest.approx(2.0) for block in blocks)
    assert all(block.origin[2] == 0.0 for block in place_blocks(flight(FIELD)))


@pytest.mark.parametrize("kind", ["auto", "route", "grid"])
def test_every_placement_covers_every_capture(drive, flight, orbit, kind: str) -> None:
    for capture in (drive(STREET), flight(FIELD), orbit(ring(), torch.zeros(3)), drive(STREET[:1])):
        for radius in (None, 12.0):
            blocks = place_blocks(capture, kind, radius)
            assert bool(covered_frames(capture_geometry(capture), blocks).all())
            assert len({block.origin for block in blocks}) == len(blocks)


def test_frame_order_does_not_matter(drive, flight) -> None:
    for capture in (drive(STREET), flight(FIELD)):
        order = torch.randperm(len(capture), generator=torch.Generator().manual_seed(0)).tolist()
        for original, shuffled in zip(place_blocks(capture), place_blocks(capture.select(order)), strict=True):
            assert shuffled.origin == pytest.approx(original.origin, abs=0.02)
            assert shuffled.radius == pytest.approx(original.radius, rel=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.01, 100.0))
def test_placement_without_metric_scale_is_scale_invariant(drive, orbit, scale: float) -> None:
    angle = torch.linspace(0, math.pi, 60)
    bend = torch.stack([30 * angle.cos(), 30 * angle.sin()], -1)
    pairs = [
        [place_blocks(drive(bend * size, is_metric=False, height=2.0 * size)) for size in (1.0, scale)],
        [place_blocks(orbit(ring() * size, torch.zeros(3), is_metric=False)) for size in (1.0, scale)],
    ]
    for original, scaled in pairs:
        assert len(original) == len(scaled)
        for first, second in zip(original, scaled, strict=True):
            assert second.radius == pytest.approx(first.radius * scale, rel=1e-2)
            assert second.origin == pytest.approx([x * scale for x in first.origin], abs=0.05 * first.radius * scale)


def test_frame_in_no_block_is_named(drive) -> None:
    geometry = capture_geometry(drive(STREET))
    with pytest.raises(PlacementError, match=r"frames frame21, frame22, frame23 and 57 more: in no block"):
        check_coverage(geometry, [Block(name="b000", origin=(0.0, 0.0, 0.0), radius=20.5)])


@pytest.mark.parametrize("radius", [0.0, -3.0, math.inf, math.nan])
def test_invalid_radius_raises(drive, radius: float) -> None:
    with pytest.raises(PlacementError, match="not a positive length"):
        place_blocks(drive(STREET), radius=radius)


def test_radius_with_too_many_blocks_raises(drive, flight) -> None:
    for capture in (drive(STREET), flight(FIELD)):
        with pytest.raises(PlacementError, match="blocks; give a larger"):
            place_blocks(capture, radius=1e-4)


def test_file_overrides_the_placement(drive, tmp_path) -> None:
    file = tmp_path / "blocks.json"
    file.write_text(json.dumps([{"name": "whole", "origin": [40, 0], "radius": 50}]))
    assert place_blocks(drive(STREET), file=file) == [Block(name="whole", origin=(40.0, 0.0, 2.0), radius=50.0)]


@pytest.mark.parametrize(
    ("name", "min_blocks", "max_blocks"),
    [
        ("street_kitti0005", 3, 4),
        ("street_kitti0001", 3, 4),
        ("drone_caliterra", 3, 4),
        ("street_lund", 2, 4),
        ("fox", 1, 1),
    ],
)
def test_real_captures_get_a_few_blocks(real_captures, name: str, min_blocks: int, max_blocks: int) -> None:
    capture = read_transforms(real_captures / name / "transforms.json")
    blocks = place_blocks(capture)
    assert min_blocks <= len(blocks) <= max_blocks
    assert bool(covered_frames(capture_geometry(capture), blocks).all())


def test_several_segments_of_one_street_are_placed_once(drive) -> None:
    forward, back = drive(STREET), drive(STREET.flip(0) + torch.tensor([0.0, 3.0]))
    back_frames = tuple(
        replace(frame, name=f"b{i}", image=f"b{i}.png", segment="back") for i, frame in enumerate(back.frames)
    )
    both = replace(forward, frames=forward.frames + back_frames)
    assert len(place_blocks(both, "route", 20.0)) == len(place_blocks(forward, "route", 20.0)) == 4


def test_unknown_placement_raises(drive) -> None:
    with pytest.raises(PlacementError, match="kind 'spiral' is none of auto, route, grid; choose one of them"):
        inspect.unwrap(place_blocks)(drive(STREET), "spiral")  # bypasses the runtime type checks of tests
