"""Blend weights: the published formula, finite everywhere, no jumps; and blending."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

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

lengths = st.floats(0.0, 1e4)
fractions = st.floats(0.0, 1.0)


def weigh(distances, selection_weight=None, *, power=4.0, max_blocks=3) -> torch.Tensor:
    """Return horizontal inverse distance weights with fallback and block limit, as the renderer computes them."""
    distances = torch.tensor(distances, dtype=torch.float64)
    selection_weight = (
        torch.ones_like(distances) if selection_weight is None else torch.tensor(selection_weight, dtype=torch.float64)
    )
    confidence = fallback_confidence(selection_weight.tolist())
    rule_weights = (
        inverse_distance_weights(distances, selection_weight, power)
        if confidence > 0.0
        else torch.zeros_like(distances)
    )
    return keep_top_k(blend_with_fallback(rule_weights, confidence, int(distances.argmin())), max_blocks)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_weights_are_inverse_distance_to_a_power(power: float) -> None:
    distances = [3.0, 5.0, 7.0]
    expected = torch.tensor([distance**-power for distance in distances], dtype=torch.float64)
    torch.testing.assert_close(weigh(distances, power=power), expected / expected.sum(), atol=2 * MIN_WEIGHT, rtol=0.0)


@given(st.lists(st.tuples(lengths, fractions), min_size=1, max_size=8), st.sampled_from([0.5, 1.0, 4.0, 50.0]))
def test_weights_sum_to_one_within_the_limit(blocks: list[tuple[float, float]], power: float) -> None:
    weights = weigh([distance for distance, _ in blocks], [weight for _, weight in blocks], power=power)
    assert weights.isfinite().all()
    assert (weights >= 0.0).all()
    assert float(weights.sum()) == pytest.approx(1.0)
    assert 1 <= int((weights > 0.0).sum()) <= 3


@pytest.mark.parametrize("power", [1.0, 4.0, 100.0])
def test_camera_on_an_origin_renders_that_block_only(power: float) -> None:
    assert weigh([0.0, 1e-6, 10.0], power=power).tolist() == [1.0, 0.0, 0.0]


def test_two_blocks_at_one_origin_have_equal_weights() -> None:
    assert weigh([0.0, 0.0, 10.0]).tolist() == [0.5, 0.5, 0.0]


def test_unselected_blocks_have_zero_weight_and_nearest_is_the_fallback() -> None:
    assert weigh([1.0, 2.0], [0.0, 1.0]).tolist() == [0.0, 1.0]
    assert weigh([1.0, 2.0], [0.0, 0.0]).tolist() == [1.0, 0.0]


def test_fallback_fades_in_smoothly() -> None:
    nearest = [float(weigh([1.0, 2.0], [0.0, i / 10000])[0]) for i in range(1000)]
    assert nearest[0] == 1.0
    assert nearest[-1] == 0.0
    assert max(abs(a - b) for a, b in itertools.pairwise(nearest)) < 0.01


def test_exact_tie_beyond_the_limit() -> None:
    assert weigh([5.0] * 6).tolist() == pytest.approx([1 / 3] * 3 + [0.0] * 3)


def test_blocks_swap_at_weight_zero() -> None:
    """At the limit, the leaving and the entering block both have weight zero."""
    before = keep_top_k(torch.tensor([0.5, 0.3, 0.1001, 0.0999]), 3)
    after = keep_top_k(torch.tensor([0.5, 0.3, 0.0999, 0.1001]), 3)
    assert float((before - after).abs().max()) < 1e-3


@pytest.mark.parametrize("power", [1.0, 4.0])
@pytest.mark.parametrize("lateral", [0.0, 0.33])
def test_weights_change_slowly_along_a_flight(grid, power: float, lateral: float) -> None:
    """Along a straight flight over a hexagonal lattice, a step of 1/200 radius changes no weight by 5 %."""
    index, steps, before = BlockIndex(grid(12).blocks), 400, {}
    largest = 0.0
    for i in range(steps):
        x = 40.0 + 20.0 * i / steps
        candidates = index.within_radius((x, 40.0 + lateral * (x - 40.0), 0.0), 1.5)
        weights = weigh(
            [candidate.distance for candidate in candidates],
            [candidate.selection_weight for candidate in candidates],
            power=power,
        )
        after = {candidate.block.name: float(weight) for candidate, weight in zip(candidates, weights, strict=True)}
        if before:
            largest = max(largest, *(abs(after.get(name, 0.0) - before.get(name, 0.0)) for name in after | before))
        before = after
    assert largest < 0.05


@given(st.lists(st.tuples(st.floats(0.01, 100.0), fractions), min_size=1, max_size=4), st.floats(1.0, 1e3), fractions)
def test_negligible_block_has_zero_weight(nearer, gap: float, selection_weight: float) -> None:
    distance = gap + max(at for at, _ in nearer)
    weights = weigh([*(at for at, _ in nearer), distance], [*(weight for _, weight in nearer), selection_weight])
    if is_negligible(distance, nearer, 4.0):
        assert float(weights[-1]) == 0.0


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_block_is_negligible_below_the_visible_weight(power: float) -> None:
    edge = (1.0 / MIN_WEIGHT) ** (1.0 / power)
    assert is_negligible(1.01 * edge, [(1.0, 1.0)], power)
    assert not is_negligible(0.99 * edge, [(1.0, 1.0)], power)
    assert float(weigh([1.0, 0.97 * edge], [1.0, 1.0], power=power)[-1]) > 0.0


def test_block_is_not_negligible_next_to_nearly_unselected_ones() -> None:
    assert not is_negligible(100.0, [(1.0, 0.01)], 4.0)
    assert not is_negligible(100.0, [], 4.0)
    assert is_negligible(100.0, [(0.0, 1.0)], 4.0)


def test_blending_equal_images_returns_that_image() -> None:
    image, weights = torch.rand(5, 7, 3), torch.rand(3, 5, 7).softmax(0)
    torch.testing.assert_close(blend([image, image, image], list(weights)), image, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(blend([image[..., 0]] * 3, list(weights)), image[..., 0], atol=1e-6, rtol=0.0)


def test_blending_is_linear_in_every_pixel() -> None:
    left = torch.tensor([[0.25, 1.0]])
    mixed = blend([torch.zeros(1, 2, 3), torch.ones(1, 2, 3)], [left, 1.0 - left])
    assert mixed[0, :, 0].tolist() == [0.75, 0.0]


def test_pixel_limits_scale_and_renormalize() -> None:
    weights = torch.rand(4, 3, 5, dtype=torch.float64).softmax(0)
    unchanged = limit_pixel_weights(weights, torch.full((4,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(unchanged, weights)
    without = limit_pixel_weights(weights, torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    assert without[1].abs().max() == 0.0
    torch.testing.assert_close(without.sum(0), torch.ones(3, 5, dtype=torch.float64))


def test_pixel_of_a_dropped_block_goes_to_the_others() -> None:
    weights = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    assert limit_pixel_weights(weights, torch.tensor([0.0, 0.5, 1.5])).flatten().tolist() == [0.0, 0.25, 0.75]
