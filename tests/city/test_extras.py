"""What a run can be shown without: what is right of it is there, and what is broken is named with its remedy."""

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

GOOD = {
    "config": {"downscale": 2},
    "frames": 7,
    "psnr": 21.5,
    "seconds": 3.0,
    "device": "cpu",
    "versions": {"torch": "2.0"},
}

SPEC = FieldSpec(
    origin=(0.0, 0.0, 0.0), half_extent=5.0, near=0.1, far=100.0, frames=("a",), exposure_reference=1.0, num_levels=2,
    log2_hashmap_size=6, appearance_dim=4, proposal_num_levels=2, proposal_log2_hashmap_size=6, visibility_log2_hashmap_size=6,
)  # fmt: skip
FRAME = Frame(
    name="a", image="a.png", intrinsics=Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0),
    camera_to_world=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)), segment="s", camera="front",
)  # fmt: skip


def record(path: Path, text: str, name: str = "b000") -> TrainingRecord:
    run = RunFolder(path)
    run.block_folder(name).mkdir(parents=True, exist_ok=True)
    run.train_summary(name).write_text(text)
    return read_training_record(run.train_summary(name))


def test_a_whole_record_is_read(tmp_path: Path) -> None:
    facts = {"frames": 7, "psnr": 21.5, "seconds": 3.0, "device": "cpu", "versions": {"torch": "2.0"}}
    assert record(tmp_path, json.dumps(GOOD | {"more": 1})) == TrainingRecord(downscale=2, **facts)
    assert record(tmp_path, json.dumps({"config": {"downscale": 2}, "psnr": None})) == TrainingRecord(downscale=2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", {}), ("frames", -1), ("frames", 1.5), ("frames", True), ("frames", "7"), ("psnr", "high"),
        ("psnr", [1.0]), ("psnr", True), ("psnr", 1e308), ("seconds", "long"), ("device", 3), ("versions", ["torch"]),
        ("versions", {"torch": 2}),
    ],
)  # fmt: skip
def test_what_is_wrong_of_a_record_is_named(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(RunError, match=rf"train\.json: {key}[^\n]* is [^\n]*; [^\n]*$"):
        record(tmp_path, json.dumps(GOOD | {key: value}))


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"psnr": NaN}', "{}", "[" * 100_000, '{"frames": 1e999}'])
def test_a_record_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError, match=r"^[^\n]*train\.json: [^\n]*$"):
        record(tmp_path, text)


@pytest.fixture
def run(route, tmp_path: Path) -> RunFolder:
    """Two blocks that are trained, so to say, two looks that fit them, and whole records."""
    run, city = RunFolder(tmp_path / "run"), route(2)
    write_city(city, run.city)
    for block in city.blocks:
        save_field(BlockField(SPEC), run.field(block.name), step=1, city=city.digest)
        record(run.path, json.dumps(GOOD), block.name)
    marks = {block.name: fingerprint(run.field(block.name)) for block in city.blocks}
    codes = {name: torch.zeros(4) for name in marks}
    look = AppearancePreset(
        reference_block="b000",
        frame=None,
        segment="s",
        exposure=None,
        city=city.digest,
        field_fingerprints=marks,
        codes=codes,
    )
    for name in ("dusk", DEFAULT_PRESET):
        write_preset(look, run.appearance_preset(name))
    return run


def read(run: RunFolder, points: str | None = None) -> Extras:
    capture = Capture(image_dir=run.path, frames=(FRAME,), is_metric=True, source="test", sparse_points=points)
    return Extras.read(run, read_city(run.city), capture)


def test_a_whole_run_has_no_faults(run: RunFolder) -> None:
    whole = read(run)
    assert (whole.faults, list(whole.presets), set(whole.records)) == ((), [DEFAULT_PRESET, "dusk"], {"b000", "b001"})
    assert whole.points is None


def test_all_of_a_run_that_is_broken_or_outdated_is_named_once(run: RunFolder) -> None:
    run.appearance_preset(DEFAULT_PRESET).write_bytes(b"no look")
    run.appearance_preset("dusk").rename(run.appearance_preset("no name"))
    run.train_summary("b000").unlink()
    run.train_summary("b001").write_text("{}")
    run.appearance_preset("dusk").write_bytes(run.appearance_preset("no name").read_bytes())
    save_field(BlockField(SPEC), run.field("b001"), step=2, city=read_city(run.city).digest)
    broken = read(run, "missing.ply")
    assert (dict(broken.presets), broken.points) == ({}, None)
    starts = [
        f"{run.appearance_preset(DEFAULT_PRESET)}: ",
        f"{run.appearance_preset('dusk')}: block b001 was trained anew since; run 'blocknerf match' with --appearance dusk again",
        f"{run.appearance_preset('no name')}: --appearance 'no name' is not letters, digits, '-' and '_'",
        f"{run.path / 'missing.ply'}: ",
        f"{run.train_summary('b000')}: this training record file does not exist",
        f"{run.train_summary('b001')}: config is missing",
    ]
    assert len(broken.faults) == len(starts)
    assert [start for start, fault in zip(starts, broken.faults, strict=True) if not fault.startswith(start)] == []
    assert all("; " in fault and "\n" not in fault for fault in broken.faults)


def test_a_look_of_a_segment_that_is_gone_is_named(run: RunFolder) -> None:
    write_preset(replace(read_preset(run.appearance_preset("dusk")), segment="<gone>"), run.appearance_preset("dusk"))
    found = read(run)
    assert list(found.presets) == [DEFAULT_PRESET]
    (fault,) = found.faults
    assert fault.startswith(
        f"{run.appearance_preset('dusk')}: segment: the capture has none named '<gone>'; run 'blocknerf match'"
    )


def test_a_block_that_is_not_trained_lacks_no_record(run: RunFolder) -> None:
    run.train_summary("b001").unlink()
    run.field("b001").unlink()
    assert not [fault for fault in read(run).faults if "train.json" in fault]
