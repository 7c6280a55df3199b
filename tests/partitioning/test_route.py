"""Route placement: uniform spacing, coverage and number of blocks along driven paths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.route import (
    COVERED_RADIUS,
    default_radius,
    first_origin_offset,
    place_route,
    resample,
    route_length,
)

TOLERANCE = 1.001


def line(*corners: tuple[float, float], step: float = 0.5) -> torch.Tensor:
    """Return a path through the corners, at height 2."""
    vertices = torch.tensor([(*corner, 2.0) for corner in corners], dtype=torch.float32)
    return resample(vertices, step)


@st.composite
def curves(draw: st.DrawFn) -> torch.Tensor:
    """Draw a smooth path that may cross itself."""
    turn_rates = draw(st.lists(st.floats(-0.12, 0.12), min_size=4, max_size=12))
    heading = torch.tensor([turn for turn in turn_rates for _ in range(10)]).cumsum(0)
    steps = torch.stack([heading.cos(), heading.sin(), torch.zeros_like(heading)], -1)
    return steps.cumsum(0)


def nearest_distances(origins: torch.Tensor) -> torch.Tensor:
    """Return the horizontal distance of every origin to its nearest neighbor."""
    return torch.cdist(origins[:, :2], origins[:, :2]).fill_diagonal_(math.inf).amin(-1)


@settings(max_examples=25, deadline=None)
@given(curves(), st.floats(4.0, 40.0))
def test_every_position_is_covered_and_blocks_keep_a_minimum_distance(path: torch.Tensor, radius: float) -> None:
    origins = place_route([path], radius)
    distances = torch.cdist(path[:, :2], origins[:, :2]).amin(-1)
    assert float(distances.max()) <= 0.95 * radius
    if len(origins) > 1:
        assert float(nearest_distances(origins).min()) >= 0.6 * radius


@settings(max_examples=25, deadline=None)
@given(curves(), st.floats(4.0, 15.0))
def test_every_block_of_a_path_overlaps_another_by_half(path: torch.Tensor, radius: float) -> None:
    origins = place_route([path], radius)
    if len(origins) > 1:
        # An eighth more only where a path returns to a position it left.
        assert float(nearest_distances(origins).max()) <= 1.125 * radius * TOLERANCE


@pytest.mark.parametrize("length", [10.0, 26.0, 69.0, 107.0, 400.0])
def test_straight_street_has_blocks_one_radius_apart(length: float) -> None:
    origins = place_route([line((0, 0), (length, 0))], 20.0)[:, 0]
    assert len(origins) == max(1, round(length / 20.0))
    assert torch.allclose(origins.diff(), torch.tensor(20.0), atol=0.6)
    assert float(origins.diff().max() if len(origins) > 1 else 0.0) <= 20.0 * TOLERANCE
    # Both ends have the same distance to their origin.
    assert float(origins[0]) == pytest.approx(length - float(origins[-1]), abs=1.5)


def test_repeated_passes_add_no_blocks() -> None:
    forward, back, lane = line((0, 0), (100, 0)), line((100, 0), (0, 0)), line((0, 3.5), (100, 3.5))
    assert len(place_route([forward, back, lane], 20.0)) == len(place_route([forward], 20.0)) == 5
    u_turn = line((0, 0), (100, 0), (100, 4), (0, 4))
    assert len(place_route([u_turn], 20.0)) <= 6


def test_side_street_starts_one_radius_from_the_main_street() -> None:
    main, side = line((0, 0), (160, 0)), line((70, 0), (70, 100))
    origins = place_route([main, side], 20.0)
    assert len(origins) == 8 + 5
    assert float(nearest_distances(origins[8:]).max()) <= 20.0 * TOLERANCE
    assert float(torch.cdist(origins[8:9, :2], origins[:8, :2]).min()) == pytest.approx(20.0, abs=1.0)


def test_loop_has_no_duplicate_block_at_its_start() -> None:
    angle = torch.linspace(0, 2 * math.pi, 200)
    path = torch.stack([30 * angle.cos(), 30 * angle.sin(), torch.full_like(angle, 2.0)], -1)
    origins = place_route([path], 20.0)
    assert float(nearest_distances(origins).min()) >= COVERED_RADIUS * 20.0 * 0.97
    assert float(nearest_distances(origins).max()) <= 20.0 * TOLERANCE


def test_heights_follow_the_road() -> None:
    hill = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 10.0]])
    origins = place_route([hill], 25.0)
    assert torch.allclose(origins[:, 2], origins[:, 0] / 10, atol=1e-4)


def test_static_vehicle_gets_one_block() -> None:
    static = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 1e-4
    assert len(place_route([static], 20.0)) == 1
    assert len(place_route([torch.zeros(1, 3)], 20.0)) == 1


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 12.0), st.booleans(), st.booleans())
def test_first_origin_is_inside_the_uncovered_part(length: float, after_block: bool, before_block: bool) -> None:
    assert -1e-9 <= first_origin_offset(length, 1.0, after_block, before_block) <= max(length, 0.51) + 1e-9


def test_route_length_counts_repeated_passes_once() -> None:
    street = line((0, 0), (60, 0), (60, 60))
    other_lane = street.flip(0) + torch.tensor([4.0, -4.0, 0.0])
    assert route_length([street]) == pytest.approx(120.0, rel=0.08)
    assert route_length([street, other_lane, street]) == pytest.approx(120.0, rel=0.15)
    assert route_length([torch.ones(3, 3)]) == 0.0


@pytest.mark.parametrize(
    ("length", "frames", "radius"), [(70, 300, 17.5), (40, 300, 16), (1000, 900, 60), (200, 20, 100)]
)
def test_default_radius_of_a_metric_street(drive, length: float, frames: int, radius: float) -> None:
    path = torch.stack([torch.linspace(0, length, frames), torch.zeros(frames)], -1)
    assert default_radius(capture_geometry(drive(path))) == pytest.approx(radius, rel=0.03)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100.0))
def test_default_radius_without_metric_scale_is_scale_invariant(drive, scale: float) -> None:
    path = line((0, 0), (60, 0), (60, 30))[:, :2]
    original = default_radius(capture_geometry(drive(path, is_metric=False)))
    scaled = default_radius(capture_geometry(drive(path * scale, is_metric=False)))
    assert scaled == pytest.approx(original * scale, rel=1e-3)
