"""Field files: bit-exact round trips, and one-line errors for damaged files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blocknerf.errors import CheckpointError, RunError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import FILE, fingerprint, load_field, read_header, save_field
from blocknerf.fields.footprint_floor import FootprintFloor
from tests.tensor_files import rewrite

MakeField = Callable[..., BlockField]


@pytest.fixture
def saved(tmp_path: Path, tiny_field: MakeField) -> Path:
    path = tmp_path / "field.safetensors"
    save_field(tiny_field(), path, step=7, city="digest")
    return path


def test_a_field_round_trips_bit_exactly(saved: Path, tiny_field: MakeField) -> None:
    field, loaded = tiny_field(), load_field(saved)
    assert loaded.spec == field.spec
    for name, value in field.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    points, footprints = field.origin + torch.rand(50, 3), torch.full((50,), 0.01)
    assert torch.equal(loaded.density(points, footprints)[0], field.density(points, footprints)[0])


def with_floor(field: BlockField) -> BlockField:
    field.footprint_floor = FootprintFloor(torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0)))
    return field


def test_the_footprint_floor_round_trips_and_is_optional(saved: Path, tmp_path: Path, tiny_field: MakeField) -> None:
    field, path = with_floor(tiny_field()), tmp_path / "floor.safetensors"
    save_field(field, path, step=7, city="digest")
    loaded, floor = load_field(path), field.footprint_floor
    assert floor is not None
    assert loaded.footprint_floor is not None
    assert torch.equal(loaded.footprint_floor.min_std, floor.min_std)
    assert loaded.state_dict().keys() == field.state_dict().keys()
    assert fingerprint(path) != fingerprint(saved)
    assert load_field(saved).footprint_floor is None


@pytest.mark.parametrize(
    "floor",
    [
        torch.zeros(4, 4, dtype=torch.bfloat16),
        torch.zeros(4, 4, 2, dtype=torch.bfloat16),
        torch.zeros(0, 0, 0, dtype=torch.bfloat16),
        torch.zeros(4, 4, 4),
        torch.full((4, 4, 4), float("nan"), dtype=torch.bfloat16),
        torch.full((4, 4, 4), -1.0, dtype=torch.bfloat16),
    ],
)
def test_a_broken_footprint_floor(saved: Path, floor: torch.Tensor) -> None:
    rewrite(FILE, saved, {"footprint_floor": floor})
    assert "footprint_floor is " in load_error(saved)


def test_a_loaded_field_is_frozen(saved: Path) -> None:
    loaded = load_field(saved)
    assert not loaded.training
    assert not any(value.requires_grad for value in loaded.parameters())


def test_the_header_is_read_without_the_weights(saved: Path, tiny_field: MakeField) -> None:
    header = read_header(saved)
    assert (header.spec, header.step, header.city) == (tiny_field().spec, 7, "digest")


def load_error(path: Path) -> str:
    """Return the one-line error of loading a file."""
    with pytest.raises(CheckpointError) as caught:
        load_field(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "no trained field here; run 'blocknerf train'" in load_error(tmp_path / "nothing.safetensors")


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    load_error(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_file(saved: Path, fraction: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    assert "not a readable field" in load_error(saved)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "field.safetensors"
    path.write_bytes(torch.randint(0, 256, (3000,), generator=torch.Generator().manual_seed(seed)).byte().numpy())
    assert "not a readable field" in load_error(path)


def test_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    save_file({"weights": torch.zeros(3)}, path)
    assert "format: None is not blocknerf.field/4; train the block again" in load_error(path)


@pytest.mark.parametrize(
    "format_version", ["blocknerf.occupancy/3", "blocknerf.field", "blocknerf.field/one", "field/2"]
)
def test_another_format(saved: Path, format_version: str) -> None:
    rewrite(FILE, saved, format=format_version)
    assert f"format: '{format_version}' is not blocknerf.field/4" in load_error(saved)


def test_newer_format(saved: Path) -> None:
    rewrite(FILE, saved, format="blocknerf.field/9")
    assert (
        "format: blocknerf.field/9 is newer than this version reads (blocknerf.field/4); update blocknerf"
        in load_error(saved)
    )


def test_older_format(saved: Path) -> None:
    rewrite(FILE, saved, format="blocknerf.field/1")
    message = "blocknerf.field/1 is older than this version reads (blocknerf.field/4); train the block again"
    assert message in load_error(saved)


def test_equal_fields_produce_equal_files(saved: Path, tmp_path: Path, tiny_field: MakeField) -> None:
    save_field(tiny_field(), tmp_path / "again.safetensors", step=7, city="digest")
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_the_fingerprint_changes_with_the_content(saved: Path, tmp_path: Path, tiny_field: MakeField) -> None:
    original, other = fingerprint(saved), tmp_path / "other.safetensors"
    field = tiny_field()
    for step, city in ((8, "digest"), (7, "another")):
        save_field(field, other, step=step, city=city)
        assert fingerprint(other) != original
    with torch.no_grad():
        next(iter(field.parameters())).view(-1)[5] += 1e-3
    save_field(field, other, step=7, city="digest")
    assert fingerprint(other) != original


@pytest.mark.parametrize("key", ["spec", "step", "city"])
def test_a_header_without_a_key(saved: Path, key: str) -> None:
    rewrite(FILE, saved, **{key: None})
    assert f"broken header ('{key}')" in load_error(saved)


@pytest.mark.parametrize("spec", ["", "{", "[]", "3", "null", '{"num_levels": 3}'])
def test_a_header_with_a_broken_spec(saved: Path, spec: str) -> None:
    rewrite(FILE, saved, spec=spec)
    load_error(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_levels", 0), ("num_levels", "3"), ("log2_hashmap_size", 99), ("hidden_dim", -1), ("origin", [0.0])],
)
def test_a_header_with_an_invalid_spec(saved: Path, key: str, value: object) -> None:
    rewrite(FILE, saved, spec=json.dumps({**read_header(saved).spec.to_json(), key: value}))
    load_error(saved)


def test_weights_of_another_shape(saved: Path) -> None:
    rewrite(FILE, saved, {"appearance_codes": torch.zeros(2, 8)})
    assert "weights do not match the header" in load_error(saved)


def test_missing_or_extra_weights(saved: Path) -> None:
    rewrite(FILE, saved, {"extra": torch.zeros(1)})
    assert "weights do not match the header" in load_error(saved)
    rewrite(FILE, saved, {"extra": None, "appearance_codes": None})
    assert "weights do not match the header" in load_error(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity(saved: Path, value: float) -> None:
    codes = torch.zeros(3, 8)
    codes[1, 2] = value
    rewrite(FILE, saved, {"appearance_codes": codes})
    assert "weights are not finite" in load_error(saved)


def test_a_failed_write_leaves_the_old_file(
    saved: Path, tiny_field: MakeField, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(saved))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RunError, match="the disk is full, nothing was written"):
        save_field(tiny_field(seed=1), saved, step=8, city="digest")
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
