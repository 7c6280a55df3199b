"""A trial is trained once, judged with masks, and goes on after it was stopped."""

from pathlib import Path
from typing import Any

import pytest

from blocknerf.capture.capture import Capture, read_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.checkpoint import load_field
from blocknerf.partition.block import Block
from pipelines import block_training
from pipelines import train as train_job
from tests.benchmarks.paper import trials
from tests.benchmarks.paper.town import without_masks
from tests.benchmarks.paper.trials import Trial, commit_of, in_blocks, run_trial, scores, shaped, work_folder

BLOCK = Block(name="b000", origin=(-18.0, 0.0, 2.3), radius=18.0)


@pytest.fixture
def trial(town: Capture) -> Trial:
    part = in_blocks(town, (BLOCK,))
    options = {"steps": 12, "seed": 1, "threads": 1}
    return Trial(
        capture=without_masks(part), judged=part, blocks=(BLOCK,), options=options, shape={"appearance_dim": 0}
    )


def test_frames_are_those_that_stand_in_a_block(town: Capture) -> None:
    part = in_blocks(town, (BLOCK,))
    assert 0.3 * len(town) < len(part) < 0.7 * len(town)
    assert bool(BLOCK.contains(part.cameras().centers).all())


def test_a_trial_is_trained_without_and_judged_with_masks(tmp_path: Path, trial: Trial, known_commit: str) -> None:
    run = RunFolder(tmp_path / "run")
    found = run_trial(run.path, trial)
    assert found.protocol.test_frames == len(trial.capture) // 8
    assert load_field(run.field("b000")).spec.appearance_dim == 0
    assert read_capture(run.capture).frames == trial.judged.frames
    assert scores(found)["psnr"] != scores(found)["psnr_masked"]
    assert commit_of(run.path) == known_commit


def test_what_is_done_is_not_done_again(tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_trial(tmp_path / "run", trial)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(train_job, "BlockTraining", refuse)
    assert scores(run_trial(tmp_path / "run", trial)) == scores(first)


def test_a_trial_that_was_stopped_before_judging_goes_on(
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


def test_a_shape_lasts_only_as_long_as_it_is_asked_for() -> None:
    own = block_training.spec_for_block
    with shaped({"appearance_dim": 0}):
        assert block_training.spec_for_block is not own
    with shaped({}):
        assert block_training.spec_for_block is own
    assert block_training.spec_for_block is own


def test_other_settings_are_other_trials(tmp_path: Path) -> None:
    folders = {work_folder(tmp_path, "table1", {"steps": steps}) for steps in (60, 60, 61)}
    assert len(folders) == 2
