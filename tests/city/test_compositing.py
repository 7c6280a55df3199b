"""Weights of blocks: the published formula, finite everywhere, no jumps; and blending."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from blocknerf.city.compositing import (
    MIN_WEIGHT,
    blend,
    blend_with_fallback,
    fallback_confidence,
    is_negligible,
    keep_top_k,
    limit_pixel_weights,
)
from blocknerf.city.selection import BlockIndex
from blocknerf.city.weighting import inverse_distance_weights

lengths = some.floats(0.0, 1e4)
shares = some.floats(0.0, 1.0)


def weigh(distances, presence=None, *, power=4.0, max_blocks=3) -> torch.Tensor:
    """Inverse distance in plan, with the nearest standing in and a limit, as the renderer does it."""
    distances = torch.tensor(distances, dtype=torch.float64)
    presence = torch.ones_like(distances) if presence is None else torch.tensor(presence, dtype=torch.float64)
    trust = fallback_confidence(presence)
    rule = inverse_distance_weights(distances, presence, power) if trust > 0.0 else torch.zeros_like(distances)
    return keep_top_k(blend_with_fallback(rule, trust, int(distances.argmin())), max_blocks)


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


def test_an_exact_tie_beyond_the_limit_is_settled() -> None:
    assert weigh([5.0] * 6).tolist() == pytest.approx([1 / 3] * 3 + [0.0] * 3)


def test_blocks_change_places_at_zero() -> None:
    """At the limit the block that goes and the one that comes both weigh nothing."""
    before = keep_top_k(torch.tensor([0.5, 0.3, 0.1001, 0.0999]), 3)
    after = keep_top_k(torch.tensor([0.5, 0.3, 0.0999, 0.1001]), 3)
    assert float((before - after).abs().max()) < 1e-3


@pytest.mark.parametrize("power", [1.0, 4.0])
@pytest.mark.parametrize("spread", [0.0, 0.33])
def test_weights_change_no_faster_than_the_camera(grid, power: float, spread: float) -> None:
    """Along a straight flight over a hexagonal lattice, a step of 1/200 radius moves no weight by 5 %."""
    index, steps, before = BlockIndex(grid(12).blocks), 400, {}
    largest = 0.0
    for i in range(steps):
        x = 40.0 + 20.0 * i / steps
        found = index.within_radius((x, 40.0 + spread * (x - 40.0), 0.0), 1.5)
        weights = weigh([each.distance for each in found], [each.selection_weight for each in found], power=power)
        now = {each.block.name: float(weight) for each, weight in zip(found, weights, strict=True)}
        if before:
            largest = max(largest, *(abs(now.get(name, 0.0) - before.get(name, 0.0)) for name in now | before))
        before = now
    assert largest < 0.05


@given(some.lists(some.tuples(some.floats(0.01, 100.0), shares), min_size=1, max_size=4), some.floats(1.0, 1e3), shares)
def test_an_outweighed_block_would_have_had_no_share(nearer, further: float, presence: float) -> None:
    distance = further + max(at for at, _ in nearer)
    weights = weigh([*(at for at, _ in nearer), distance], [*(share for _, share in nearer), presence])
    if is_negligible(distance, nearer, 4.0):
        assert float(weights[-1]) == 0.0


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_a_block_is_outweighed_from_where_its_share_cannot_be_seen(power: float) -> None:
    edge = (1.0 / MIN_WEIGHT) ** (1.0 / power)
    assert is_negligible(1.01 * edge, [(1.0, 1.0)], power)
    assert not is_negligible(0.99 * edge, [(1.0, 1.0)], power)
    assert float(weigh([1.0, 0.97 * edge], [1.0, 1.0], power=power)[-1]) > 0.0


def test_a_block_is_not_outweighed_by_hardly_present_ones() -> None:
    assert not is_negligible(100.0, [(1.0, 0.01)], 4.0)
    assert not is_negligible(100.0, [], 4.0)
    assert is_negligible(100.0, [(0.0, 1.0)], 4.0)


def test_blending_equal_images_gives_that_image() -> None:
    image, weights = torch.rand(5, 7, 3), torch.rand(3, 5, 7).softmax(0)
    torch.testing.assert_close(blend([image, image, image], list(weights)), image, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(blend([image[..., 0]] * 3, list(weights)), image[..., 0], atol=1e-6, rtol=0.0)


def test_blending_is_linear_in_every_pixel() -> None:
    left = torch.tensor([[0.25, 1.0]])
    mixed = blend([torch.zeros(1, 2, 3), torch.ones(1, 2, 3)], [left, 1.0 - left])
    assert mixed[0, :, 0].tolist() == [0.75, 0.0]


def test_admission_scales_pixels_and_leaves_whole_shares() -> None:
    shares = torch.rand(4, 3, 5, dtype=torch.float64).softmax(0)
    same = limit_pixel_weights(shares, torch.full((4,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(same, shares)
    without = limit_pixel_weights(shares, torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    assert without[1].abs().max() == 0.0
    torch.testing.assert_close(without.sum(0), torch.ones(3, 5, dtype=torch.float64))


def test_a_pixel_that_only_a_block_left_out_claims_goes_to_the_others() -> None:
    shares = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    assert limit_pixel_weights(shares, torch.tensor([0.0, 0.5, 1.5])).flatten().tolist() == [0.0, 0.25, 0.75]
