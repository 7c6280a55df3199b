"""Grid placement: coverage, overlap and number of blocks over ground seen from the air."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.errors import PlacementError
from blocknerf.partitioning.grid import COVER_RADIUS, default_radius, place_grid


def make_field(width: float, height: float, side: int = 16) -> torch.Tensor:
    """An even lattice of positions on a rectangle."""
    x, y = torch.linspace(0, width, side), torch.linspace(0, height, side)
    return torch.cartesian_prod(x, y)


def rotate(xy: torch.Tensor, angle: float) -> torch.Tensor:
    cosine, sine = math.cos(angle), math.sin(angle)
    return xy @ torch.tensor([[cosine, sine], [-sine, cosine]])


@settings(max_examples=10, deadline=None)
@given(st.floats(20.0, 200.0), st.floats(20.0, 200.0), st.floats(0.0, 3.0), st.floats(25.0, 80.0))
def test_ground_is_covered_and_neighbors_overlap_by_half(
    width: float, height: float, angle: float, radius: float
) -> None:
    ground = rotate(make_field(width, height), angle)
    origins = place_grid(ground, radius)
    assert float(torch.cdist(ground, origins).amin(-1).max()) <= COVER_RADIUS * radius * 1.001
    if len(origins) > 1:
        nearest = torch.cdist(origins, origins).fill_diagonal_(math.inf).amin(-1)
        assert float(nearest.max()) <= radius * 1.001
        assert float(nearest.min()) >= 0.5 * radius * 0.999


def test_number_of_blocks_matches_the_area() -> None:
    cell = 20.0**2 * math.sqrt(3) / 2
    count = len(place_grid(make_field(200, 200, 40), 20.0))
    assert 0.7 * 200 * 200 / cell < count < 1.3 * 200 * 200 / cell


def test_position_order_does_not_matter() -> None:
    ground = rotate(make_field(150, 90), 0.3)
    shuffled = ground[torch.randperm(len(ground), generator=torch.Generator().manual_seed(1))]
    assert torch.allclose(place_grid(ground, 40.0), place_grid(shuffled, 40.0), atol=1e-2)


def test_one_position_is_one_block() -> None:
    assert place_grid(torch.ones(5, 2), 10.0).shape == (1, 2)


@settings(max_examples=3, deadline=None)
@given(st.floats(0.01, 100.0))
def test_default_radius_scales_with_the_ground(scale: float) -> None:
    ground = make_field(150, 100, 12)
    assert default_radius(ground * scale, 80) == pytest.approx(default_radius(ground, 80) * scale, rel=0.05)


@pytest.mark.parametrize(("frames", "min_blocks", "max_blocks"), [(5, 1, 1), (25, 2, 3), (80, 3, 4), (1000, 8, 10)])
def test_default_radius_suits_the_number_of_frames(frames: int, min_blocks: int, max_blocks: int) -> None:
    ground = make_field(150, 110, 16)
    assert min_blocks <= len(place_grid(ground, default_radius(ground, frames))) <= max_blocks


def test_radius_with_an_enormous_grid_raises() -> None:
    with pytest.raises(PlacementError, match="give a larger one"):
        place_grid(make_field(10_000, 10_000), 1.0)
