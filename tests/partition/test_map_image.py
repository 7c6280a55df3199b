"""The plan picture: what lies where in it. It was looked at for every real capture as well."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.colormaps import BLOCK_COLORS
from blocknerf.partition.block import Block
from blocknerf.partition.frame_assignment import assign_frames
from blocknerf.partition.map_image import draw_map, scale_bar_length

PATH = torch.stack([torch.arange(41.0), torch.zeros(41)], -1)
BLOCKS = [Block(name=f"b00{i}", origin=(x, 0.0, 2.0), radius=20.0) for i, x in enumerate((10.0, 30.0))]


def has_color(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture.astype(int) - color).max(-1) <= 6).any())


def test_the_picture_shows_discs_where_they_are(drive) -> None:
    capture = drive(PATH)
    picture = draw_map(capture, BLOCKS, assign_frames(capture, BLOCKS))
    assert picture.shape == (900, 1200, 3)
    assert tuple(picture[5, 5]) == (255, 255, 255)
    # The world's x runs to the right: the first block's color left of the second's.
    left, right = picture[200:640, 60:400], picture[200:640, 800:1140]
    assert has_color(left, BLOCK_COLORS[0])
    assert not has_color(left, BLOCK_COLORS[1])
    assert has_color(right, BLOCK_COLORS[1])
    assert not has_color(right, BLOCK_COLORS[0])


def test_north_is_up(drive) -> None:
    capture = drive(PATH.flip(-1))
    blocks = [replace(block, origin=(0.0, block.origin[0], 2.0)) for block in BLOCKS]
    picture = draw_map(capture, blocks, assign_frames(capture, blocks))
    assert has_color(picture[200:400, 200:1000], BLOCK_COLORS[1])
    assert has_color(picture[430:640, 200:1000], BLOCK_COLORS[0])


def test_points_are_drawn_in_their_color(drive, with_points) -> None:
    capture = drive(PATH, **with_points(np.array([[10.0, 15.0, 1.0], [1e6, 0.0, 0.0]])))
    with_one = draw_map(capture, BLOCKS, assign_frames(capture, BLOCKS)).astype(int)
    without = draw_map(replace(capture, sparse_points=None), BLOCKS, assign_frames(capture, BLOCKS)).astype(int)
    rows, columns = np.abs(with_one - without)[:820].max(-1).nonzero()
    assert 0 < len(rows) < 40
    assert abs(rows.mean() - 412) > 50
    assert columns.mean() < 600


def test_streets_are_drawn_where_they_run(drive) -> None:
    capture = drive(PATH)
    members = assign_frames(capture, BLOCKS)
    crossing = [np.array([[20.0, -500.0], [20.0, 500.0]])]
    changed = draw_map(capture, BLOCKS, members, crossing) != draw_map(capture, BLOCKS, members)
    columns = changed[:800].any(-1).any(0).nonzero()[0]
    # The middle of the picture is x = 20; a street is 6 m wide, and the view some 60 m.
    assert abs(columns.mean() - 600) < 3
    assert 80 < len(columns) < 150
    assert changed[:800].any(-1).any(-1).mean() > 0.95


def test_one_frame_is_a_picture_too(drive, flight) -> None:
    for capture in (drive(PATH[:1]), flight(torch.tensor([[0.0, 0.0, 30.0], [5.0, 0.0, 30.0]]))):
        picture = draw_map(capture, BLOCKS[:1], assign_frames(capture, BLOCKS[:1], test_every=0))
        assert has_color(picture, BLOCK_COLORS[0])


def test_many_segments_and_blocks_are_drawn(drive) -> None:
    capture = drive(PATH, segments=[f"a rather long name of a segment {i}" for i in range(41)])
    blocks = [Block(name=f"b{i:03d}", origin=(i * 0.5, 0.0, 2.0), radius=3.0) for i in range(80)]
    members = assign_frames(capture, blocks, test_every=0)
    assert draw_map(capture, blocks, members).std() > 1


@given(st.floats(1e-6, 1e9))
def test_a_scale_bar_has_a_round_length_that_fits(most: float) -> None:
    length = scale_bar_length(most)
    assert most * 0.4 < length <= most * (1 + 1e-6)
    assert str(round(length / 10 ** math.floor(math.log10(length) + 1e-9))) in "125"


@pytest.mark.parametrize("name", ["street_kitti0005", "drone_caliterra", "fox"])
def test_real_captures_are_drawn(real_captures, name: str) -> None:
    from blocknerf.capture import read_transforms
    from blocknerf.partition.placement import place_blocks

    capture = read_transforms(real_captures / name / "transforms.json")
    blocks = place_blocks(capture)
    picture = draw_map(capture, blocks, assign_frames(capture, blocks))
    assert all(has_color(picture, BLOCK_COLORS[i]) for i in range(len(blocks)))
