"""Weights of blocks: the published formula, finite everywhere, no jumps; and blending."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from blocknerf.city.compositing import MIN_WEIGHT, blend, block_weights, is_outweighed, limit_blocks
from blocknerf.city.selection import BlockIndex

lengths = some.floats(0.0, 1e4)
shares = some.floats(0.0, 1.0)


def weigh(distances, presence=None, *, power=4.0, max_blocks=3, weighting="inverse_distance_2d") -> torch.Tensor:
    distances = torch.tensor(distances, dtype=torch.float64)
    presence = torch.ones_like(distances) if presence is None else torch.tensor(presence, dtype=torch.float64)
    nearest = int(distances.argmin())
    return block_weights(distances, presence, nearest, weighting=weighting, power=power, max_blocks=max_blocks)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_weights_are_inverse_distance_to_a_power(power: float) -> None:
    distances = [3.0, 5.0, 7.0]
    expected = torch.tensor([distance**-power for distance in distances], dtype=torch.float64)
    torch.testing.assert_close(weigh(distances, power=power), expected / expected.sum(), atol=2 * MIN_WEIGHT, rtol=0.0)


@given(some.lists(some.tuples(lengths, shares), min_size=1, max_size=8), some.sampled_from([0.5, 1.0, 4.0, 50.0]))
def test_weights_are_shares_of_one_within_the_limit(blocks: list[tuple[float, float]], power: float) -> None:
    weights = weigh([distance for distance, _ in blocks], [share for _, share in blocks], power=power)
    assert weights.isfinite().all()
    assert (weights >= 0.0).all()
    assert float(weights.sum()) == pytest.approx(1.0)
    assert 1 <= int((weights > 0.0).sum()) <= 3


@pytest.mark.parametrize("power", [1.0, 4.0, 100.0])
def test_a_camera_on_an_origin_sees_that_block_alone(power: float) -> None:
    assert weigh([0.0, 1e-6, 10.0], power=power).tolist() == [1.0, 0.0, 0.0]


def test_two_blocks_on_one_spot_share_evenly() -> None:
    assert weigh([0.0, 0.0, 10.0]).tolist() == [0.5, 0.5, 0.0]


def test_absent_blocks_have_no_weight_and_nearest_stands_in_for_all_of_them() -> None:
    assert weigh([1.0, 2.0], [0.0, 1.0]).tolist() == [0.0, 1.0]
    assert weigh([1.0, 2.0], [0.0, 0.0]).tolist() == [1.0, 0.0]


def test_nearest_stands_in_smoothly_as_the_rest_fades() -> None:
    nearest = [float(weigh([1.0, 2.0], [0.0, i / 10000])[0]) for i in range(1000)]
    assert nearest[0] == 1.0
    assert nearest[-1] == 0.0
    assert max(abs(a - b) for a, b in itertools.pairwise(nearest)) < 0.01


def test_nearest_weighting_takes_the_nearest_that_is_present() -> None:
    assert weigh([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], weighting="nearest").tolist() == [0.0, 1.0, 0.0]


def test_an_exact_tie_beyond_the_limit_is_settled() -> None:
    assert weigh([5.0] * 6).tolist() == pytest.approx([1 / 3] * 3 + [0.0] * 3)


def test_blocks_change_places_at_zero() -> None:
    """At the limit the block that goes and the one that comes both weigh nothing."""
    before = limit_blocks(torch.tensor([0.5, 0.3, 0.1001, 0.0999]), 3)
    after = limit_blocks(torch.tensor([0.5, 0.3, 0.0999, 0.1001]), 3)
    assert float((before - after).abs().max()) < 1e-3


@pytest.mark.parametrize("power", [1.0, 4.0])
@pytest.mark.parametrize("spread", [0.0, 0.33])
def test_weights_change_no_faster_than_the_camera(grid, power: float, spread: float) -> None:
    """Along a straight flight over a hexagonal lattice, a step of 1/200 radius moves no weight by 5 %."""
    index, steps, before = BlockIndex(grid(12).blocks), 400, {}
    largest = 0.0
    for i in range(steps):
        x = 40.0 + 20.0 * i / steps
        found = index.around((x, 40.0 + spread * (x - 40.0), 0.0), 1.5)
        weights = weigh([each.distance for each in found], [each.presence for each in found], power=power)
        now = {each.block.name: float(weight) for each, weight in zip(found, weights, strict=True)}
        if before:
            largest = max(largest, *(abs(now.get(name, 0.0) - before.get(name, 0.0)) for name in now | before))
        before = now
    assert largest < 0.05


@given(some.lists(some.tuples(some.floats(0.01, 100.0), shares), min_size=1, max_size=4), some.floats(1.0, 1e3), shares)
def test_an_outweighed_block_would_have_had_no_share(nearer, further: float, presence: float) -> None:
    distance = further + max(at for at, _ in nearer)
    weights = weigh([*(at for at, _ in nearer), distance], [*(share for _, share in nearer), presence])
    if is_outweighed(distance, nearer, 4.0):
        assert float(weights[-1]) == 0.0


def test_a_block_is_not_outweighed_by_hardly_present_ones() -> None:
    assert not is_outweighed(100.0, [(1.0, 0.01)], 4.0)
    assert not is_outweighed(100.0, [], 4.0)
    assert is_outweighed(100.0, [(0.0, 1.0)], 4.0)


def test_blending_equal_images_gives_that_image() -> None:
    image = torch.rand(5, 7, 3)
    torch.testing.assert_close(blend([image, image, image], [0.2, 0.3, 0.5]), image, atol=1e-6, rtol=0.0)


def test_blending_is_linear() -> None:
    mixed = blend([torch.zeros(2, 2), torch.ones(2, 2)], [0.25, 0.75])
    assert mixed.tolist() == [[0.75, 0.75], [0.75, 0.75]]
    assert math.isclose(float(blend([torch.tensor([4.0])], [1.0])), 4.0)
