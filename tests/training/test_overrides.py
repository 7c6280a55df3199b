"""Parameters that are set by name."""

import pytest

from blocknerf.errors import OptionError
from blocknerf.training.overrides import OWN_OPTION, PARAMETERS, Overrides


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
