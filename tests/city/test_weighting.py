"""Blending: the rules against their formulas, weights without jumps, limits on the number of blocks, and the sum."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.cameras import RayBundle
from blocknerf.city.manifest import WEIGHTINGS
from blocknerf.city.selection import BlockIndex
from blocknerf.city.weighting import (
    MIN_PIXEL_VISIBILITY,
    MIN_WEIGHT,
    WEIGHTING_RULES,
    BlendInputs,
    WeightingFunction,
    blend,
    blend_with_fallback,
    fallback_confidence,
    inverse_distance_weights,
    is_negligible,
    keep_top_k,
    limit_pixel_weights,
    visibility_weights,
    weighting_rule,
)
from blocknerf.errors import RunError

HEIGHT, WIDTH = 3, 4


def blend_weights(weighting: str | WeightingFunction, inputs: BlendInputs, power: float) -> torch.Tensor:
    return weighting_rule(weighting).weights(inputs, power)


def make_inputs(count: int, seed: int, **changes: Any) -> BlendInputs:
    """Return random blocks around a camera at the origin, with random predictions."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    origins = 40.0 * (noise(count, 3) - 0.5)
    directions = torch.nn.functional.normalize(noise(HEIGHT, WIDTH, 3) - 0.5, dim=-1)
    rays = RayBundle(
        origins=torch.zeros_like(directions),
        directions=directions,
        pixel_radii=torch.full((HEIGHT, WIDTH), 0.01).double(),
    )
    defaults = {
        "distances": origins[:, :2].norm(dim=-1),
        "selection_weights": noise(count),
        "origins": origins,
        "rays": rays,
        "visibility": noise(count, HEIGHT, WIDTH),
        "depth": 1.0 + 30.0 * noise(count, HEIGHT, WIDTH),
    }
    return BlendInputs(**defaults | changes)


def as_images(weights: torch.Tensor) -> torch.Tensor:
    return weights if weights.ndim == 3 else weights[:, None, None].expand(-1, HEIGHT, WIDTH)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@settings(deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6), power=st.sampled_from([0.5, 1.0, 4.0, 30.0]))
def test_weights_sum_to_one_and_unselected_blocks_have_none(
    weighting: str, seed: int, count: int, power: float
) -> None:
    inputs = make_inputs(count, seed)
    inputs.selection_weights[1:][inputs.selection_weights[1:] < 0.3] = 0.0
    weights = blend_weights(weighting, inputs, power)
    assert (weights.ndim == 3) == WEIGHTING_RULES[weighting].per_pixel
    assert weights.isfinite().all()
    assert (weights >= 0.0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    assert (weights[inputs.selection_weights == 0.0] == 0.0).all()


@pytest.mark.parametrize("weighting", [weighting for weighting in WEIGHTINGS if weighting != "nearest"])
@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weights_are_continuous_in_all_inputs(weighting: str, seed: int) -> None:
    inputs, step = make_inputs(4, seed), 1e-6
    changed = make_inputs(
        4,
        seed,
        distances=inputs.distances + step,
        selection_weights=inputs.selection_weights * (1.0 - step),
        origins=inputs.origins + step,
        visibility=inputs.visibility * (1.0 - step),
        depth=inputs.depth * (1.0 + step),
    )
    before, after = (blend_weights(weighting, item, 4.0) for item in (inputs, changed))
    # Blocks are at least a few millimeters from the camera and its surface points, so gradients stay below this.
    assert float((before - after).abs().max()) < 1e-2


@pytest.mark.parametrize("weighting", WEIGHTINGS[1:])
@pytest.mark.parametrize("selection_weight", [1e-3, 1e-6, 1e-12])
def test_block_enters_at_weight_zero(weighting: str, selection_weight: float) -> None:
    inputs = make_inputs(3, 5, selection_weights=torch.tensor([1.0, selection_weight, 1.0], dtype=torch.float64))
    assert float(blend_weights(weighting, inputs, 4.0)[1].max()) < 2e3 * selection_weight


def test_nearest_takes_the_nearest_selected_block() -> None:
    changes = {"distances": torch.tensor([1.0, 2.0, 3.0]), "selection_weights": torch.tensor([0.0, 0.5, 1.0])}
    assert blend_weights("nearest", make_inputs(3, 0, **changes), 4.0).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_inverse_distance_3d_matches_a_loop(power: float) -> None:
    """The surface point is at the depth blended with horizontal inverse distance weights."""
    inputs = make_inputs(3, 7)
    weights = blend_weights("inverse_distance_3d", inputs, power)
    horizontal_weights = [
        float(p) * float(d) ** -power for p, d in zip(inputs.selection_weights, inputs.distances, strict=True)
    ]
    for row in range(HEIGHT):
        for column in range(WIDTH):
            depth = sum(w * float(inputs.depth[i, row, column]) for i, w in enumerate(horizontal_weights)) / sum(
                horizontal_weights
            )
            point = [depth * float(x) for x in inputs.rays.directions[row, column]]
            distances = [math.dist(point, origin) for origin in inputs.origins.tolist()]
            unnormalized = [float(p) * d**-power for p, d in zip(inputs.selection_weights, distances, strict=True)]
            expected = torch.tensor(unnormalized, dtype=torch.float64) / sum(unnormalized)
            torch.testing.assert_close(weights[:, row, column], expected)


def test_visibility_weights_are_proportional() -> None:
    inputs = make_inputs(3, 3, visibility=torch.rand(3, HEIGHT, WIDTH, dtype=torch.float64) * 0.5 + 0.5)
    weights = inputs.selection_weights[:, None, None] * inputs.visibility
    torch.testing.assert_close(blend_weights("visibility_pixel", inputs, 4.0), weights / weights.sum(0))
    means = weights.mean((1, 2))
    torch.testing.assert_close(blend_weights("visibility_image", inputs, 4.0), means / means.sum())


def test_unseen_pixels_use_the_mean_visibility() -> None:
    """The sky counts as unseen by all blocks; its weights come from the mean visibility."""
    visibility = torch.tensor([[[0.9, 0.0, 0.0, 0.0]], [[0.3, 0.0, 1e-9, 0.0]]], dtype=torch.float64)
    weights = visibility_weights(visibility, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(weights[:, 0, 1:], torch.tensor([[0.75] * 3, [0.25] * 3], dtype=torch.float64))
    assert MIN_PIXEL_VISIBILITY * 0.9 / 4 < 0.3, "the first pixel is visible enough to use its own visibility"
    torch.testing.assert_close(weights[:, 0, 0], torch.tensor([0.75, 0.25], dtype=torch.float64))


def test_inverse_distance_is_finite_on_an_origin() -> None:
    weights = inverse_distance_weights(torch.tensor([0.0, 1e-6, 10.0]), torch.ones(3), 100.0)
    assert weights.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("weighting", ["mine", "", "Nearest"])
def test_unknown_weighting_raises_and_lists_the_rules(weighting: str) -> None:
    with pytest.raises(RunError, match=", ".join(WEIGHTINGS)) as caught:
        weighting_rule(weighting)
    assert "\n" not in str(caught.value)


def test_scores_of_a_function_are_normalized_with_the_selection_weights() -> None:
    inputs = make_inputs(3, 1, selection_weights=torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    even = blend_weights(lambda blocks: torch.full_like(blocks.distances, 7.0), inputs, 4.0)
    assert even.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    by_visibility = blend_weights(lambda blocks: blocks.visibility, inputs, 4.0)
    expected = inputs.visibility * inputs.selection_weights[:, None, None]
    torch.testing.assert_close(by_visibility, expected / expected.sum(0))


def test_the_selection_weights_decide_where_all_scores_are_zero() -> None:
    inputs = make_inputs(2, 1, selection_weights=torch.tensor([0.75, 0.25], dtype=torch.float64))
    scores = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.float64)
    scores[1, 0, 0] = 1.0
    weights = blend_weights(lambda _: scores, inputs, 4.0)
    assert weights[:, 0, 0].tolist() == [0.0, 1.0]
    assert weights[:, 2, 3].tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.ones(2), r"weighting mine: return one score per block \(3\), or per block and pixel \(3, 4\)"),
        ([0.5, 0.5, 0.0], "return one score per block"),
        (torch.tensor([2.0, -1.0, 0.0]), "must be finite and not negative"),
        (torch.tensor([float("nan"), 1.0, 0.0]), "must be finite and not negative"),
        (torch.tensor([float("inf"), 1.0, 0.0]), "must be finite and not negative"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(scores: Any, message: str) -> None:
    def mine(inputs: BlendInputs) -> Any:
        return scores

    with pytest.raises(RunError, match=message):
        blend_weights(mine, make_inputs(3, 2), 4.0)


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
