"""The run command: the order of its steps, resuming, and its refusal to mix two runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError, TrainingError
from blocknerf.partitioning.block import Block
from blocknerf.similarity import IDENTITY
from pipelines import run as module
from pipelines.cluster import ClusterOptions
from pipelines.match import segment_presets
from pipelines.run import run

CITY = City(blocks=(Block(name="b000", origin=(0.0, 0.0, 0.0), radius=1.0),))
FRAME = Frame(
    name="a", image="a", intrinsics=Intrinsics(width=4, height=4, fx=4.0, fy=4.0, cx=2.0, cy=2.0),
    camera_to_world=IDENTITY, segment="noon", camera="front",
)  # fmt: skip
CAPTURE = Capture(image_dir=Path("images"), frames=(FRAME,), is_metric=True, source="test")
PRESET = AppearancePreset(
    reference_block="b000", frame=None, segment="noon", exposure=None, city="", field_fingerprints={"b000": ""},
    codes={"b000": torch.zeros(2)},
)  # fmt: skip
STAGES = ("ingest", "partition", "train", "align", "match", "render", "evaluate", "report")


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Replace every job by one that records its call; return the calls."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def job(name: str) -> Any:
        def recorded(*paths: Path, **options: Any) -> City | Capture | AppearancePreset | None:
            calls.append((name, options))
            return {"partition": CITY, "ingest": CAPTURE, "match": PRESET}.get(name)

        return recorded

    for name in STAGES:
        monkeypatch.setattr(module, name, job(name))
    return calls


def test_jobs_run_in_order(tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]) -> None:
    folder = run(tmp_path / "capture", out=tmp_path / "run")
    assert folder == RunFolder(tmp_path / "run")
    assert tuple(name for name, _ in stages) == STAGES


def test_every_drive_but_the_one_of_the_default_preset_gets_a_preset(
    tmp_path: Path, stages: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    drives = [replace(FRAME, name=name, image=name, segment=name) for name in ("noon", "dawn", "day 2/dusk")]
    monkeypatch.setattr(module, "ingest", lambda *_, **__: replace(CAPTURE, frames=tuple(drives)))
    run(tmp_path / "capture", out=tmp_path / "run")
    matched = [(options.get("appearance"), options.get("reference")) for name, options in stages if name == "match"]
    assert matched == [(None, None), ("dawn", "dawn"), ("day_2_dusk", "day 2/dusk")]


@pytest.mark.parametrize(
    ("segments", "names"),
    [
        (["a"], []),
        ([str(number) for number in range(9)], []),
        (["default", "b"], ["segment0", "b"]),
        (["a b", "a/b", "..."], ["a_b", "segment1", "segment2"]),
    ],
)
def test_names_of_presets_are_file_names_and_differ(segments: list[str], names: list[str]) -> None:
    frames = tuple(replace(FRAME, name=segment, image=segment, segment=segment) for segment in segments)
    presets = segment_presets(replace(CAPTURE, frames=frames))
    assert list(presets) == names
    assert list(presets.values()) == (segments if names else [])


def test_settings_reach_the_job_that_reads_them(tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]) -> None:
    poses = {"pose_refinement": True, "pose_segment_length": 2.5, "pose_restarts": 2}
    run(
        tmp_path / "capture",
        out=tmp_path / "run",
        preset="fine",
        steps=7,
        downscale=3,
        radius=20.0,
        test_every=4,
        jobs=1,
        image_cache_gb=0.5,
        threads=2,
        robust_trim=0.1,
        seed=3,
        overrides=("field.num_levels=6",),
        device="cpu",
        deterministic=True,
        view=True,
        **poses,
    )
    options = dict(stages)
    device = {"device": "cpu", "threads": 2}
    training = {"jobs": 1, "image_cache_gb": 0.5, "robust_trim": 0.1, "seed": 3, "overrides": ("field.num_levels=6",)}
    training |= {"deterministic": True, "view": True, "cluster": ClusterOptions(), "keep_going": False}
    assert options["train"] == {"steps": 7, "downscale": 3, **poses, **device, **training}
    assert [options[name] for name in ("match", "render", "evaluate")] == [device] * 3
    expected = {"placement": "auto", "blocks": None, "osm": None, "radius": 20.0}
    expected |= {"preset": "fine", "test_every": 4}
    assert options["partition"] == expected


def test_the_same_command_resumes(tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]) -> None:
    for _ in range(2):
        run(tmp_path / "capture", out=tmp_path / "run", steps=20)
        RunFolder(tmp_path / "run").checkpoint("b000").mkdir(parents=True, exist_ok=True)
    assert len(stages) == 2 * len(STAGES)


@pytest.mark.parametrize("name", ["checkpoint", "train_summary"])
def test_other_training_settings_are_refused(
    name: str, tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]
) -> None:
    run(tmp_path / "capture", out=tmp_path / "run", steps=20)
    getattr(RunFolder(tmp_path / "run"), name)("b000").mkdir(parents=True)
    stages.clear()
    with pytest.raises(RunError, match="steps 20, not 30; choose another output folder"):
        run(tmp_path / "capture", out=tmp_path / "run", steps=30)
    assert [stage for stage, _ in stages] == ["ingest", "partition"]


def test_settings_may_change_until_a_block_has_started(
    tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]
) -> None:
    for steps in (20, 30):
        run(tmp_path / "capture", out=tmp_path / "run", steps=steps)
    assert json.loads(RunFolder(tmp_path / "run").run_settings.read_text())["steps"] == 30


def test_a_run_from_before_an_option_existed_resumes(tmp_path: Path, stages: list[tuple[str, dict[str, Any]]]) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.checkpoint("b000").mkdir(parents=True)
    old = {"format": "blocknerf.run/2", "steps": 20, "downscale": None}
    for extra in ({}, {"pose_refinement": False, "pose_segment_length": 0.0}):
        folder.run_settings.write_text(json.dumps(old | extra))
        run(tmp_path / "capture", out=folder.path, steps=20)
        with pytest.raises(RunError, match="with pose_refinement null, not true; choose another output folder"):
            run(tmp_path / "capture", out=folder.path, steps=20, pose_refinement=True)
    assert [name for name, _ in stages].count("train") == 2


def test_pose_segments_without_refinement_are_refused(tmp_path: Path, stages: list[Any]) -> None:
    with pytest.raises(TrainingError, match="--pose-segment-length needs --pose-refinement; add it"):
        run(tmp_path / "capture", out=tmp_path / "run", pose_segment_length=3.0)
    assert stages == []


def test_a_stage_that_fails_stops_the_run(
    tmp_path: Path, stages: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RunError("train: no")

    monkeypatch.setattr(module, "train", refuse)
    with pytest.raises(RunError, match="train: no"):
        run(tmp_path / "capture", out=tmp_path / "run")
    assert [name for name, _ in stages] == ["ingest", "partition"]
