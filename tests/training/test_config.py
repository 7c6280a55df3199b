"""How much training a block gets by default."""

import pytest

from blocknerf.quality import PRESETS
from blocknerf.training.config import RAYS_PER_STEP, STEP_BOUNDS, TrainConfig, default_steps


def test_every_preset_has_its_amount_of_work() -> None:
    configs = [TrainConfig.preset(preset, pixels=4_000_000) for preset in PRESETS]
    assert [config.rays_per_step for config in configs] == [RAYS_PER_STEP[preset] for preset in PRESETS]
    work = [config.steps * config.rays_per_step for config in configs]
    assert work == sorted(work)
    assert work[0] < 0.2 * work[-1]


def test_asked_for_steps_are_taken() -> None:
    config = TrainConfig.preset("draft", pixels=4_000_000, steps=7, seed=3, downscale=2)
    assert (config.steps, config.seed, config.downscale) == (7, 3, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_grow_with_the_pixels_within_bounds(preset: str) -> None:
    fewest, most = STEP_BOUNDS[preset]
    counts = [default_steps(preset, pixels) for pixels in (1, 10**6, 10**7, 10**8, 10**12)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (fewest, most)
    middle = (fewest + most) * RAYS_PER_STEP[preset] // 2
    assert default_steps(preset, 2 * middle) >= default_steps(preset, middle)
