"""Presets round-trip exactly, report file, key and hint if invalid, and detect retrained blocks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.city.appearance_presets import (
    FILE,
    AppearancePreset,
    interpolate_exposure,
    interpolate_presets,
    load_preset,
    read_preset,
    stale_blocks,
    write_preset,
)
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import fingerprint, load_field, save_field
from blocknerf.fields.spec import FieldSpec

SPEC = FieldSpec(
    origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=("a", "b"), exposure_reference=1.0,
    num_levels=2, log2_hashmap_size=6, appearance_dim=4, proposal_num_levels=2, proposal_log2_hashmap_size=6,
    visibility_log2_hashmap_size=6,
)  # fmt: skip
PRESET = AppearancePreset(
    reference_block="b001",
    frame="drive/00001.jpg",
    segment="drive",
    exposure=0.1,
    city="c" * 64,
    field_fingerprints={"b000": "e" * 64, "b001": "f" * 64},
    codes={"b000": torch.tensor([0.1, -2.0]), "b001": torch.tensor([1 / 3, 1e-9])},
)


def test_preset_round_trips(tmp_path: Path) -> None:
    for preset in (PRESET, replace(PRESET, frame=None, exposure=None)):
        write_preset(preset, tmp_path / "noon.safetensors")
        loaded = read_preset(tmp_path / "noon.safetensors")
        assert loaded.codes.keys() == preset.codes.keys()
        assert all(torch.equal(loaded.codes[name], code) for name, code in preset.codes.items())
        assert [
            getattr(loaded, key)
            for key in ("reference_block", "frame", "segment", "exposure", "city", "field_fingerprints")
        ] == [
            getattr(preset, key)
            for key in ("reference_block", "frame", "segment", "exposure", "city", "field_fingerprints")
        ]


def write_changed(path: Path, change: Callable[[dict[str, str], dict[str, torch.Tensor]], object]) -> Path:
    """Write the preset above with changed metadata or codes."""
    codes = dict(PRESET.codes)
    metadata = {"format": FILE.format} | {
        key: json.dumps(getattr(PRESET, key))
        for key in ("reference_block", "frame", "segment", "exposure", "city", "field_fingerprints")
    }
    change(metadata, codes)
    replace(FILE, format=metadata.pop("format")).write(path, codes, metadata)
    return path


BROKEN: dict[str, tuple[Callable[[dict[str, str], dict[str, torch.Tensor]], object], str]] = {
    "newer": (
        lambda m, c: m.update(format="blocknerf.appearance-preset/9"),
        "format: .*newer than this version reads .*; update",
    ),
    "foreign": (
        lambda m, c: m.update(format="blocknerf.field/1"),
        "format: 'blocknerf.field/1' is not blocknerf.appearance-preset",
    ),
    "missing key": (lambda m, c: m.pop("segment"), "segment is missing; add it, or remove the file"),
    "not JSON": (lambda m, c: m.update(exposure="bright"), "is not valid JSON"),
    "text as a number": (lambda m, c: m.update(exposure='"1"'), "exposure is '1', not a number or null"),
    "true as a number": (lambda m, c: m.update(exposure="true"), "exposure is True, not a number"),
    "dark": (lambda m, c: m.update(exposure="0"), "exposure is 0, not a number >="),
    "number as a name": (lambda m, c: m.update(reference_block="1"), "reference_block is 1, not text"),
    "list of fingerprints": (
        lambda m, c: m.update(field_fingerprints="[]"),
        r"field_fingerprints is \[\], not an object",
    ),
    "number as a fingerprint": (
        lambda m, c: m.update(field_fingerprints='{"b000": 1}'),
        r"field_fingerprints\[\.\.\.\] is not text",
    ),
    "no code for a field": (lambda m, c: c.pop("b000"), "field_fingerprints: block b000 has no code or no fingerprint"),
    "a code too many": (
        lambda m, c: c.update(b7=torch.zeros(2)),
        "field_fingerprints: block b7 has no code or no fingerprint",
    ),
    "no code for the reference": (
        lambda m, c: m.update(reference_block='"b9"'),
        "reference_block: 'b9' is not among its blocks",
    ),
    "a code that is a matrix": (
        lambda m, c: c.update(b000=torch.zeros(2, 2)),
        "b000: is not a vector of finite numbers",
    ),
    "a code of whole numbers": (
        lambda m, c: c.update(b000=torch.zeros(2, dtype=torch.int32)),
        "b000: is not a vector of finite numbers",
    ),
    "NaN": (
        lambda m, c: c.update(b000=torch.tensor([float("nan"), 0.0])),
        "b000: is not a vector of finite numbers",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_content_raises_one_line_with_file_and_hint(name: str, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    path = write_changed(tmp_path / "noon.safetensors", change)
    with pytest.raises(RunError, match=message) as caught:
        read_preset(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_or_missing_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "noon.safetensors"
    with pytest.raises(RunError, match="does not exist; run 'blocknerf match'"):
        read_preset(path)
    write_preset(PRESET, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match=r"not a readable preset .*; remove the file and run 'blocknerf match' again"):
        read_preset(path)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a trained block and a preset for it."""
    folder = RunFolder(tmp_path)
    torch.manual_seed(0)
    save_field(BlockField(SPEC), folder.field("b000"), step=5, city="c")
    fields = {"b000": fingerprint(folder.field("b000"))}
    preset = replace(
        PRESET, reference_block="b000", city="c", field_fingerprints=fields, codes={"b000": torch.zeros(4)}
    )
    write_preset(preset, folder.appearance_preset("noon"))
    return folder


def test_preset_is_loaded_by_name(run: RunFolder) -> None:
    assert run.preset_names() == ("noon",)
    preset = load_preset(run, "noon", "c")
    assert list(stale_blocks(preset, run, "c")) == []
    with pytest.raises(RunError, match=r"dusk\.safetensors: there is no such preset, the run has noon; run .*match"):
        load_preset(run, "dusk", "c")
    for name in ("", "../noon", "a b", ".noon"):
        with pytest.raises(RunError, match=r"^--appearance .* is not letters, digits, '-' and '_'; choose another$"):
            load_preset(run, name, "c")


def test_retrained_block_is_detected(run: RunFolder) -> None:
    field = load_field(run.field("b000"))
    save_field(field, run.field("b000"), step=5, city="c")
    load_preset(run, "noon", "c")  # The same training again writes the same field, so its codes stay valid.
    for change in ({"step": 6}, {"city": "d"}):
        save_field(field, run.field("b000"), **{"step": 5, "city": "c"} | change)
        with pytest.raises(
            RunError, match="block b000 was retrained since; run 'blocknerf match' with --appearance noon"
        ):
            load_preset(run, "noon", "c")
    field.appearance_codes[1, 2] += 1e-6
    save_field(field, run.field("b000"), step=5, city="c")
    with pytest.raises(RunError, match="block b000 was retrained since"):
        load_preset(run, "noon", "c")
    run.field("b000").unlink()
    with pytest.raises(RunError, match="block b000 is no longer trained"):
        load_preset(run, "noon", "c")
    with pytest.raises(RunError, match=r"belongs to another city\.json"):
        load_preset(run, "noon", "d")


def test_block_trained_later_is_detected(run: RunFolder) -> None:
    save_field(load_field(run.field("b000")), run.field("b001"), step=5, city="c")
    with pytest.raises(
        RunError, match="block b001 was trained since; run 'blocknerf match' with --appearance noon again"
    ):
        load_preset(run, "noon", "c")
    save_field(load_field(run.field("b000")), run.field("b001"), step=5, city="d")
    assert load_preset(run, "noon", "c").reference_block == "b000", "a block of another city is ignored"


def test_presets_are_interpolated_linearly() -> None:
    other = replace(PRESET, codes={name: code + 2.0 for name, code in PRESET.codes.items()})
    assert torch.equal(interpolate_presets(PRESET, other, 0.0)["b000"], PRESET.codes["b000"])
    assert torch.equal(interpolate_presets(PRESET, other, 1.0)["b001"], other.codes["b001"])
    torch.testing.assert_close(interpolate_presets(PRESET, other, 0.25)["b000"], PRESET.codes["b000"] + 0.5)
    smaller = replace(other, reference_block="b001", codes={"b001": torch.zeros(2)}, field_fingerprints={"b001": ""})
    assert list(interpolate_presets(PRESET, smaller, 0.5)) == ["b001"]
    assert interpolate_exposure(None, 2.0, 0.5) is None
    assert interpolate_exposure(3.0, 3.0, 0.7) == pytest.approx(3.0)
