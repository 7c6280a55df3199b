"""Optional files of a run: valid ones are read, broken ones are reported with a hint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.appearance_presets import DEFAULT_PRESET, AppearancePreset, read_preset, write_preset
from blocknerf.city.extras import Extras, TrainingRecord, read_training_record
from blocknerf.city.manifest import read_city, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import fingerprint, save_field
from blocknerf.fields.spec import FieldSpec

SUMMARY = {
    "config": {"downscale": 2},
    "frames": 7,
    "psnr": 21.5,
    "seconds": 3.0,
    "device": "cpu",
    "versions": {"torch": "2.0"},
}

SPEC = FieldSpec(
    origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=("a",), exposure_reference=1.0,
    num_levels=2, log2_hashmap_size=6, appearance_dim=4, proposal_num_levels=2, proposal_log2_hashmap_size=6,
    visibility_log2_hashmap_size=6,
)  # fmt: skip
FRAME = Frame(
    name="a", image="a.png", intrinsics=Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0),
    camera_to_world=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)), segment="s", camera="front",
)  # fmt: skip


def write_summary(path: Path, text: str, name: str = "b000") -> TrainingRecord:
    run = RunFolder(path)
    run.block_folder(name).mkdir(parents=True, exist_ok=True)
    run.train_summary(name).write_text(text)
    return read_training_record(run.train_summary(name))


def test_complete_summary_is_read(tmp_path: Path) -> None:
    expected = {"frames": 7, "psnr": 21.5, "seconds": 3.0, "device": "cpu", "versions": {"torch": "2.0"}}
    assert write_summary(tmp_path, json.dumps(SUMMARY | {"more": 1})) == TrainingRecord(downscale=2, **expected)
    assert write_summary(tmp_path, json.dumps({"config": {"downscale": 2}, "psnr": None})) == TrainingRecord(
        downscale=2
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", {}), ("frames", -1), ("frames", 1.5), ("frames", True), ("frames", "7"), ("psnr", "high"),
        ("psnr", [1.0]), ("psnr", True), ("psnr", 1e308), ("seconds", "long"), ("device", 3), ("versions", ["torch"]),
        ("versions", {"torch": 2}),
    ],
)  # fmt: skip
def test_invalid_summary_value_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(RunError, match=rf"train\.json: {key}[^\n]* is [^\n]*; [^\n]*$"):
        write_summary(tmp_path, json.dumps(SUMMARY | {key: value}))


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"psnr": NaN}', "{}", "[" * 100_000, '{"frames": 1e999}'])
def test_invalid_summary_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError, match=r"^[^\n]*train\.json: [^\n]*$"):
        write_summary(tmp_path, text)


@pytest.fixture
def run(route, tmp_path: Path) -> RunFolder:
    """A run with two blocks that count as trained, two valid presets, and complete summaries."""
    run, city = RunFolder(tmp_path / "run"), route(2)
    write_city(city, run.city)
    for block in city.blocks:
        save_field(BlockField(SPEC), run.field(block.name), step=1, city=city.digest)
        write_summary(run.path, json.dumps(SUMMARY), block.name)
    fingerprints = {block.name: fingerprint(run.field(block.name)) for block in city.blocks}
    codes = {name: torch.zeros(4) for name in fingerprints}
    preset = AppearancePreset(
        reference_block="b000",
        frame=None,
        segment="s",
        exposure=None,
        city=city.digest,
        field_fingerprints=fingerprints,
        codes=codes,
    )
    for name in ("dusk", DEFAULT_PRESET):
        write_preset(preset, run.appearance_preset(name))
    return run


def read(run: RunFolder, points: str | None = None) -> Extras:
    capture = Capture(image_dir=run.path, frames=(FRAME,), is_metric=True, source="test", sparse_points=points)
    return Extras.read(run, read_city(run.city), capture)


def test_complete_run_has_no_faults(run: RunFolder) -> None:
    extras = read(run)
    assert (extras.faults, list(extras.presets), set(extras.records)) == (
        (),
        [DEFAULT_PRESET, "dusk"],
        {"b000", "b001"},
    )
    assert extras.points is None


def test_every_broken_or_stale_file_is_reported_once(run: RunFolder) -> None:
    run.appearance_preset(DEFAULT_PRESET).write_bytes(b"no preset")
    run.appearance_preset("dusk").rename(run.appearance_preset("no name"))
    run.train_summary("b000").unlink()
    run.train_summary("b001").write_text("{}")
    run.appearance_preset("dusk").write_bytes(run.appearance_preset("no name").read_bytes())
    save_field(BlockField(SPEC), run.field("b001"), step=2, city=read_city(run.city).digest)
    extras = read(run, "missing.ply")
    assert (dict(extras.presets), extras.points) == ({}, None)
    prefixes = [
        f"{run.appearance_preset(DEFAULT_PRESET)}: ",
        f"{run.appearance_preset('dusk')}: block b001 was retrained since; run 'blocknerf match'",
        f"{run.appearance_preset('no name')}: --appearance 'no name' is not letters, digits, '-' and '_'",
        f"{run.path / 'missing.ply'}: ",
        f"{run.train_summary('b000')}: this training record file does not exist",
        f"{run.train_summary('b001')}: config is missing",
    ]
    assert len(extras.faults) == len(prefixes)
    assert [prefix for prefix, fault in zip(prefixes, extras.faults, strict=True) if not fault.startswith(prefix)] == []
    assert all("; " in fault and "\n" not in fault for fault in extras.faults)


def test_preset_of_a_missing_segment_is_reported(run: RunFolder) -> None:
    write_preset(replace(read_preset(run.appearance_preset("dusk")), segment="<gone>"), run.appearance_preset("dusk"))
    extras = read(run)
    assert list(extras.presets) == [DEFAULT_PRESET]
    (fault,) = extras.faults
    assert fault.startswith(
        f"{run.appearance_preset('dusk')}: segment: the capture has none named '<gone>'; run 'blocknerf match'"
    )


def test_untrained_block_needs_no_summary(run: RunFolder) -> None:
    run.train_summary("b001").unlink()
    run.field("b001").unlink()
    assert not [fault for fault in read(run).faults if "train.json" in fault]
