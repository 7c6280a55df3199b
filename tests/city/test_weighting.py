"""The five rules: shares of one, each its formula, and no jumps but those of `nearest`."""

import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from blocknerf.cameras import RayBundle
from blocknerf.city.manifest import WEIGHTINGS
from blocknerf.city.weighting import (
    MIN_PIXEL_VISIBILITY,
    PIXEL_WEIGHTINGS,
    BlendInputs,
    blend_weights,
    inverse_distance_weights,
    visibility_weights,
)
from blocknerf.errors import RunError

HEIGHT, WIDTH = 3, 4


def make_sights(count: int, seed: int, **facts: Any) -> BlendInputs:
    """Blocks at random around a camera at the origin, with random predictions."""
    draw = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw, dtype=torch.float64)

    origins = 40.0 * (noise(count, 3) - 0.5)
    directions = torch.nn.functional.normalize(noise(HEIGHT, WIDTH, 3) - 0.5, dim=-1)
    rays = RayBundle(
        origins=torch.zeros_like(directions),
        directions=directions,
        pixel_radii=torch.full((HEIGHT, WIDTH), 0.01).double(),
    )
    known = {
        "distances": origins[:, :2].norm(dim=-1),
        "selection_weights": noise(count),
        "origins": origins,
        "rays": rays,
        "visibility": noise(count, HEIGHT, WIDTH),
        "depth": 1.0 + 30.0 * noise(count, HEIGHT, WIDTH),
    }
    return BlendInputs(**known | facts)


def as_images(shares: torch.Tensor) -> torch.Tensor:
    return shares if shares.ndim == 3 else shares[:, None, None].expand(-1, HEIGHT, WIDTH)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@settings(deadline=None)
@given(seed=some.integers(0, 10_000), count=some.integers(1, 6), power=some.sampled_from([0.5, 1.0, 4.0, 30.0]))
def test_shares_are_of_one_and_none_goes_to_the_absent(weighting: str, seed: int, count: int, power: float) -> None:
    sights = make_sights(count, seed)
    sights.selection_weights[1:][sights.selection_weights[1:] < 0.3] = 0.0
    shares = blend_weights(weighting, sights, power)
    assert (shares.ndim == 3) == (weighting in PIXEL_WEIGHTINGS)
    assert shares.isfinite().all()
    assert (shares >= 0.0).all()
    torch.testing.assert_close(shares.sum(0), torch.ones_like(shares[0]))
    assert (shares[sights.selection_weights == 0.0] == 0.0).all()


@pytest.mark.parametrize("weighting", [weighting for weighting in WEIGHTINGS if weighting != "nearest"])
@settings(deadline=None)
@given(seed=some.integers(0, 10_000))
def test_a_small_change_of_anything_changes_shares_little(weighting: str, seed: int) -> None:
    sights, step = make_sights(4, seed), 1e-6
    nudged = make_sights(
        4,
        seed,
        distances=sights.distances + step,
        selection_weights=sights.selection_weights * (1.0 - step),
        origins=sights.origins + step,
        visibility=sights.visibility * (1.0 - step),
        depth=sights.depth * (1.0 + step),
    )
    before, after = (blend_weights(weighting, each, 4.0) for each in (sights, nudged))
    # Blocks lie at least a few millimetres from the camera and from what it sees, so slopes stay below this.
    assert float((before - after).abs().max()) < 1e-2


@pytest.mark.parametrize("weighting", WEIGHTINGS[1:])
@pytest.mark.parametrize("presence", [1e-3, 1e-6, 1e-12])
def test_a_block_enters_through_zero(weighting: str, presence: float) -> None:
    sights = make_sights(3, 5, selection_weights=torch.tensor([1.0, presence, 1.0], dtype=torch.float64))
    assert float(blend_weights(weighting, sights, 4.0)[1].max()) < 2e3 * presence


def test_nearest_takes_the_nearest_that_is_present() -> None:
    facts = {"distances": torch.tensor([1.0, 2.0, 3.0]), "selection_weights": torch.tensor([0.0, 0.5, 1.0])}
    assert blend_weights("nearest", make_sights(3, 0, **facts), 4.0).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_the_third_dimension_is_the_distance_of_the_seen_point(power: float) -> None:
    """Against a loop: the point lies at the depths that inverse distance in plan blends."""
    sights = make_sights(3, 7)
    shares = blend_weights("inverse_distance_3d", sights, power)
    raw = [float(p) * float(d) ** -power for p, d in zip(sights.selection_weights, sights.distances, strict=True)]
    for row in range(HEIGHT):
        for column in range(WIDTH):
            depth = sum(w * float(sights.depth[i, row, column]) for i, w in enumerate(raw)) / sum(raw)
            point = [depth * float(x) for x in sights.rays.directions[row, column]]
            far = [math.dist(point, origin) for origin in sights.origins.tolist()]
            weights = [float(p) * d**-power for p, d in zip(sights.selection_weights, far, strict=True)]
            expected = torch.tensor(weights, dtype=torch.float64) / sum(weights)
            torch.testing.assert_close(shares[:, row, column], expected)


def test_visibility_shares_are_in_proportion() -> None:
    sights = make_sights(3, 3, visibility=torch.rand(3, HEIGHT, WIDTH, dtype=torch.float64) * 0.5 + 0.5)
    weights = sights.selection_weights[:, None, None] * sights.visibility
    torch.testing.assert_close(blend_weights("visibility_pixel", sights, 4.0), weights / weights.sum(0))
    means = weights.mean((1, 2))
    torch.testing.assert_close(blend_weights("visibility_image", sights, 4.0), means / means.sum())


def test_what_nobody_saw_is_shared_as_the_picture_is() -> None:
    """The sky counts as not seen by any block; its shares come from the rest of the picture."""
    visibility = torch.tensor([[[0.9, 0.0, 0.0, 0.0]], [[0.3, 0.0, 1e-9, 0.0]]], dtype=torch.float64)
    shares = visibility_weights(visibility, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(shares[:, 0, 1:], torch.tensor([[0.75] * 3, [0.25] * 3], dtype=torch.float64))
    assert MIN_PIXEL_VISIBILITY * 0.9 / 4 < 0.3, "the first pixel is seen well enough to be weighed by itself"
    torch.testing.assert_close(shares[:, 0, 0], torch.tensor([0.75, 0.25], dtype=torch.float64))


def test_a_camera_on_an_origin_sees_that_block_alone() -> None:
    shares = inverse_distance_weights(torch.tensor([0.0, 1e-6, 10.0]), torch.ones(3), 100.0)
    assert shares.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("weighting", ["mine", "", "Nearest"])
def test_a_rule_that_there_is_not_is_refused_with_the_five(weighting: str) -> None:
    with pytest.raises(RunError, match=", ".join(WEIGHTINGS)) as caught:
        inspect.unwrap(blend_weights)(weighting, make_sights(3, 0), 4.0)  # as without the type checks of tests
    assert "\n" not in str(caught.value)
