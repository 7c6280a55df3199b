"""The spec of a field: JSON round trips and rejected values."""

import json
from collections.abc import Callable
from dataclasses import fields

import pytest

from blocknerf.errors import CheckpointError
from blocknerf.fields.spec import FieldSpec
from blocknerf.options import PRESETS

MakeSpec = Callable[..., FieldSpec]


def test_a_spec_round_trips_through_json(tiny_spec: MakeSpec) -> None:
    spec = tiny_spec(num_samples=9)
    assert FieldSpec.from_json(json.dumps(spec.to_json())) == spec


@pytest.mark.parametrize("key", ["origin", "num_levels", "num_samples"])
def test_a_missing_key_is_named(tiny_spec: MakeSpec, key: str) -> None:
    content = tiny_spec().to_json()
    del content[key]
    with pytest.raises(CheckpointError, match=f"field spec: {key} is missing; "):
        FieldSpec.from_json(json.dumps(content))


def test_an_unknown_key_is_named(tiny_spec: MakeSpec) -> None:
    with pytest.raises(CheckpointError, match="field spec: colors is an unknown key; "):
        FieldSpec.from_json(json.dumps({**tiny_spec().to_json(), "colors": 3}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_levels", "3"),
        ("num_levels", 3.0),
        ("num_levels", True),
        ("near", None),
        ("near", float("nan")),
        ("near", 0.0),
        ("half_extent", 1e300),
        ("num_levels", 10**9),
        ("num_samples", 0),
        ("max_resolution", 2**62),
        ("origin", [0.0, 1.0]),
        ("origin", [0.0, 1.0, "2"]),
        ("origin", 5.0),
        ("frames", "a.png"),
        ("frames", [1]),
    ],
)
def test_an_invalid_value_is_rejected(tiny_spec: MakeSpec, key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"field spec: {key}.* is .*not .*; correct it, or use the version"):
        FieldSpec.from_json(json.dumps({**tiny_spec().to_json(), key: value}))


@pytest.mark.parametrize("content", [None, [], 3, "spec"])
def test_other_json_values_are_rejected(content: object) -> None:
    with pytest.raises(CheckpointError, match=r"field spec: the content is .*, not an object"):
        FieldSpec.from_json(json.dumps(content))


def test_presets_increase_in_size(tiny_spec: MakeSpec) -> None:
    placement = {key: getattr(tiny_spec(), key) for key in ("origin", "half_extent", "near", "far", "frames")}
    draft, standard, fine = (FieldSpec.preset(preset, **placement, exposure_reference=1.0) for preset in PRESETS)
    for key in ("log2_hashmap_size", "max_resolution", "hidden_dim", "num_proposal_samples", "num_samples"):
        values = [getattr(spec, key) for spec in (draft, standard, fine)]
        assert values == sorted(values)
        assert values[0] < values[-1]
    assert {field.name for field in fields(draft)} == set(draft.to_json())
