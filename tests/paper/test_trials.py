"""Trials are trained once, evaluated with masks, and resumed after interruption."""

from pathlib import Path
from typing import Any

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.checkpoint import load_field
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.held_out import hold_out
from blocknerf.training import setup
from pipelines import train as train_job
from tests.benchmarks.paper import trials
from tests.benchmarks.paper.town import without_masks
from tests.benchmarks.paper.trials import Trial, commit_of, in_blocks, override_spec, run_trial, scores, work_folder

BLOCK = Block(name="b000", origin=(-18.0, 0.0, 2.3), radius=18.0)


@pytest.fixture
def trial(town: Capture) -> Trial:
    part = in_blocks(town, (BLOCK,))
    options = {"steps": 12, "seed": 1, "threads": 1}
    return Trial(
        capture=without_masks(part),
        evaluation_capture=part,
        blocks=(BLOCK,),
        options=options,
        shape={"appearance_dim": 0},
    )


def test_in_blocks_selects_the_frames_in_a_block(town: Capture) -> None:
    part = in_blocks(town, (BLOCK,))
    assert 0.3 * len(town) < len(part) < 0.7 * len(town)
    assert bool(BLOCK.contains(part.cameras().centers).all())


def test_a_trial_is_trained_without_and_evaluated_with_masks(tmp_path: Path, trial: Trial, known_commit: str) -> None:
    run = RunFolder(tmp_path / "run")
    evaluation = run_trial(run.path, trial)
    assert evaluation.protocol.test_frames == len(hold_out(trial.capture, 8).test) > 0
    assert load_field(run.field("b000")).spec.appearance_dim == 0
    assert read_capture(run.capture).frames == trial.evaluation_capture.frames
    assert scores(evaluation)["psnr"] != scores(evaluation)["psnr_masked"]
    assert commit_of(run.path) == known_commit


def test_completed_training_is_skipped(tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_trial(tmp_path / "run", trial)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train_job, "BlockTraining", fail)
    assert scores(run_trial(tmp_path / "run", trial)) == scores(first)


def test_a_trial_interrupted_before_evaluation_resumes(
    tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trials, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            run_trial(tmp_path / "run", trial)
    trained = RunFolder(tmp_path / "run").field("b000").read_bytes()
    assert scores(run_trial(tmp_path / "run", trial))["psnr"] is not None
    assert RunFolder(tmp_path / "run").field("b000").read_bytes() == trained


def test_the_spec_override_is_temporary() -> None:
    original = setup.spec_for_block
    with override_spec({"appearance_dim": 0}):
        assert setup.spec_for_block is not original
    with override_spec({}):
        assert setup.spec_for_block is original
    assert setup.spec_for_block is original


def test_work_folders_depend_on_the_settings(tmp_path: Path) -> None:
    folders = {work_folder(tmp_path, "table1", {"steps": steps}) for steps in (60, 60, 61)}
    assert len(folders) == 2
