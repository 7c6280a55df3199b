"""Presets of the training configuration, and parameters set by name."""

import pytest

from blocknerf.errors import OptionError
from blocknerf.options import PRESETS
from blocknerf.training.config import (
    OWN_OPTION,
    PARAMETERS,
    RAYS_PER_STEP,
    STEP_BOUNDS,
    Overrides,
    TrainConfig,
    default_steps,
)


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


def test_every_parameter_can_be_set() -> None:
    for group, known in PARAMETERS.items():
        for name, kind in known.items():
            value = 16 if name.endswith("resolution") else 1
            settings = getattr(Overrides.parse([f"{group}.{name}={value}"]), group)
            assert settings == {name: value}
            assert type(settings[name]) is kind
    assert len(PARAMETERS["training"]) + len(OWN_OPTION) >= 18
    assert len(PARAMETERS["field"]) >= 17


def test_the_last_setting_of_a_name_wins() -> None:
    assert Overrides.parse(["training.grid_lr=1", " training.grid_lr = 2e-2 "]).training == {"grid_lr": 0.02}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grid_lr=0.1", "not of the form training.NAME=VALUE"),
        ("training.grid_lr", "not of the form training.NAME=VALUE"),
        ("city.power=4", "not of the form training.NAME=VALUE"),
        ("training.gird_lr=0.1", r"there is no training.gird_lr; did you mean training.grid_lr\?"),
        ("field.zzz=1", "there is no field.zzz; choose from near, far"),
        ("training.seed=1", "use the option --seed"),
        ("field.origin=1", "origin follows from the block"),
        ("training.grid_lr=fast", "give a number from 0 to 1e"),
        ("training.grid_lr=nan", "give a number from 0 to 1e"),
        ("training.grid_lr=-1", "give a number from 0 to 1e"),
        ("training.depth_ray_fraction=1.5", "give a number from 0 to 1"),
        ("training.rays_per_step=1e3", "give a whole number from 1 to 1.04858e"),
        ("field.near=0", "give a number from 1e-06 to 1e"),
        ("field.proposal_max_resolution=8", "give a whole number from 16 to 1.04858e"),
        ("field.num_levels=0", "give a whole number from 1 to 32"),
        ("field.log2_hashmap_size=40", "give a whole number from 1 to 24"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Overrides.parse([setting])
    assert str(caught.value).startswith(f"--set {setting}: ")
