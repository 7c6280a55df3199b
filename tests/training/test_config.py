"""Default amount of training of a block."""

import pytest

from blocknerf.quality import PRESETS
from blocknerf.training.config import RAYS_PER_STEP, STEP_BOUNDS, TrainConfig, default_steps


def test_work_increases_with_the_preset() -> None:
    configs = [TrainConfig.preset(preset, pixels=4_000_000) for preset in PRESETS]
    assert [config.rays_per_step for config in configs] == [RAYS_PER_STEP[preset] for preset in PRESETS]
    num_rays = [config.steps * config.rays_per_step for config in configs]
    assert num_rays == sorted(num_rays)
    assert num_rays[0] < 0.2 * num_rays[-1]


def test_explicit_steps_override_the_default() -> None:
    config = TrainConfig.preset("draft", pixels=4_000_000, steps=7, seed=3, downscale=2)
    assert (config.steps, config.seed, config.downscale) == (7, 3, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_increase_with_pixels_within_bounds(preset: str) -> None:
    lower, upper = STEP_BOUNDS[preset]
    counts = [default_steps(preset, pixels) for pixels in (1, 10**6, 10**7, 10**8, 10**12)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (lower, upper)
    middle = (lower + upper) * RAYS_PER_STEP[preset] // 2
    assert default_steps(preset, 2 * middle) >= default_steps(preset, middle)


def test_more_rays_per_step_need_fewer_steps() -> None:
    config = TrainConfig.preset("draft", pixels=10_000_000, rays_per_step=4096, grid_lr=0.01)
    assert (config.rays_per_step, config.grid_lr) == (4096, 0.01)
    assert config.steps == default_steps("draft", 5_000_000)
