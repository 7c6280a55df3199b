"""Map image: positions of its elements. It was inspected for every real capture as well."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.colormaps import BLOCK_COLORS
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.frame_assignment import assign_frames
from blocknerf.partitioning.map_image import (
    _draw_names,
    _figure,
    _map_axes,
    _view,
    draw_map,
    scale_bar_length,
)

PATH = torch.stack([torch.arange(41.0), torch.zeros(41)], -1)
BLOCKS = [Block(name=f"b00{i}", origin=(x, 0.0, 2.0), radius=20.0) for i, x in enumerate((10.0, 30.0))]


def has_color(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((np.abs(image.astype(int) - color).max(-1) <= 6).any())


def test_map_shows_discs_at_their_positions(drive) -> None:
    capture = drive(PATH)
    image = draw_map(capture, BLOCKS, assign_frames(capture, BLOCKS))
    assert image.shape == (900, 1200, 3)
    assert tuple(image[5, 5]) == (255, 255, 255)
    # The world's x axis points right: the first block's color is left of the second's.
    left, right = image[200:640, 60:400], image[200:640, 800:1140]
    assert has_color(left, BLOCK_COLORS[0])
    assert not has_color(left, BLOCK_COLORS[1])
    assert has_color(right, BLOCK_COLORS[1])
    assert not has_color(right, BLOCK_COLORS[0])


def test_north_is_up(drive) -> None:
    capture = drive(PATH.flip(-1))
    blocks = [replace(block, origin=(0.0, block.origin[0], 2.0)) for block in BLOCKS]
    image = draw_map(capture, blocks, assign_frames(capture, blocks))
    assert has_color(image[200:400, 200:1000], BLOCK_COLORS[1])
    assert has_color(image[430:640, 200:1000], BLOCK_COLORS[0])


def test_points_are_drawn_in_their_color(drive, with_points) -> None:
    capture = drive(PATH, **with_points(np.array([[10.0, 15.0, 1.0], [1e6, 0.0, 0.0]])))
    with_points_image = draw_map(capture, BLOCKS, assign_frames(capture, BLOCKS)).astype(int)
    without_points_image = draw_map(
        replace(capture, sparse_points=None), BLOCKS, assign_frames(capture, BLOCKS)
    ).astype(int)
    rows, columns = np.abs(with_points_image - without_points_image)[:820].max(-1).nonzero()
    assert 0 < len(rows) < 40
    assert abs(rows.mean() - 412) > 50
    assert columns.mean() < 600


def test_streets_are_drawn_at_their_positions(drive) -> None:
    capture = drive(PATH)
    assignments = assign_frames(capture, BLOCKS)
    streets = [np.array([[20.0, -500.0], [20.0, 500.0]])]
    difference = draw_map(capture, BLOCKS, assignments, streets) != draw_map(capture, BLOCKS, assignments)
    columns = difference[:800].any(-1).any(0).nonzero()[0]
    # The center of the image is x = 20; a street is 6 m wide, and the view about 60 m.
    assert abs(columns.mean() - 600) < 3
    assert 80 < len(columns) < 150
    assert difference[:800].any(-1).any(-1).mean() > 0.95


def test_map_of_a_few_frames(drive, flight) -> None:
    for capture in (drive(PATH[:1]), flight(torch.tensor([[0.0, 0.0, 30.0], [5.0, 0.0, 30.0]]))):
        image = draw_map(capture, BLOCKS[:1], assign_frames(capture, BLOCKS[:1], test_every=0))
        assert has_color(image, BLOCK_COLORS[0])


def test_many_segments_and_blocks_are_drawn(drive) -> None:
    capture = drive(PATH, segments=[f"a rather long name of a segment {i}" for i in range(41)])
    blocks = [Block(name=f"b{i:03d}", origin=(i * 0.5, 0.0, 2.0), radius=3.0) for i in range(80)]
    assignments = assign_frames(capture, blocks, test_every=0)
    assert draw_map(capture, blocks, assignments).std() > 1


@pytest.mark.parametrize(("count", "least"), [(2, 2), (5, 5), (41, 8)])
def test_names_do_not_overlap(drive, count: int, least: int) -> None:
    capture, spacing = drive(PATH), 40.0 / (count - 1)
    blocks = [Block(name=f"b{i:03d}", origin=(i * spacing, 0.0, 2.0), radius=spacing + 1.0) for i in range(count)]
    view = _view(capture_geometry(capture), blocks)
    with _figure() as figure:
        axes = _map_axes(figure, view)
        _draw_names(axes, view, blocks, assign_frames(capture, blocks, test_every=0))
        boxes = [text.get_window_extent() for text in axes.texts]
        assert axes.texts[0].get_text() == "b000"
        assert len(boxes) >= 2 * least
        assert not any(box.overlaps(other) for box, other in combinations(boxes, 2))


@pytest.mark.parametrize("name", ["$\\frac{$", "\u5317\u4eac", "a\nb", "_hidden", "<b>&"])
def test_unusual_names_are_drawn_as_they_are(drive, name: str) -> None:
    capture = drive(PATH, segments=[name] * len(PATH))
    assert has_color(draw_map(capture, BLOCKS, assign_frames(capture, BLOCKS)), BLOCK_COLORS[0])


@given(st.floats(1e-6, 1e9))
def test_scale_bar_has_a_round_length_that_fits(max_length: float) -> None:
    length = scale_bar_length(max_length)
    assert max_length * 0.4 < length <= max_length * (1 + 1e-6)
    assert str(round(length / 10 ** math.floor(math.log10(length) + 1e-9))) in "125"


@pytest.mark.parametrize("name", ["street_kitti0005", "drone_caliterra", "fox"])
def test_real_captures_are_drawn(real_captures, name: str) -> None:
    from blocknerf.capture import read_transforms
    from blocknerf.partitioning.placement import place_blocks

    capture = read_transforms(real_captures / name / "transforms.json")
    blocks = place_blocks(capture)
    image = draw_map(capture, blocks, assign_frames(capture, blocks))
    assert all(has_color(image, BLOCK_COLORS[i]) for i in range(len(blocks)))
