"""Changes since a video or an evaluation was made are reported, one clause per kind."""

from pathlib import Path

import msgspec
import pytest

from blocknerf.city.run_folder import RunFolder
from pipelines.staleness import CurrentInputs, Inputs, changes, merge_inputs
from tests.pipelines.conftest import retrain

BLOCKS = ("b000", "b001", "b002")


@pytest.fixture
def recorded(exact_run: RunFolder) -> Inputs:
    return CurrentInputs(exact_run).of(BLOCKS)


def test_an_unchanged_run_has_no_changes(exact_run: RunFolder, recorded: Inputs) -> None:
    assert recorded.blocks.keys() == set(BLOCKS)
    assert changes(exact_run, recorded) == ()


def test_several_changes_are_reported_together(exact_run: RunFolder, recorded: Inputs) -> None:
    for name in ("b000", "b001"):
        retrain(exact_run, name, seed=9)
    exact_run.field("b002").unlink()
    assert changes(exact_run, recorded) == ("blocks b000, b001 were retrained since", "block b002 is no longer trained")


def test_only_the_blocks_of_the_inputs_count(exact_run: RunFolder, recorded: Inputs) -> None:
    retrain(exact_run, "b002", seed=9)
    assert changes(exact_run, recorded.of(["b000", "b001"])) == ()


def test_inputs_of_different_times_are_all_compared(exact_run: RunFolder, recorded: Inputs) -> None:
    retrain(exact_run, "b000", seed=9)
    later = CurrentInputs(exact_run).of(BLOCKS)
    assert changes(exact_run, later) == ()
    assert (
        changes(exact_run, recorded, later)
        == changes(exact_run, later, recorded)
        == ("block b000 was retrained since",)
    )


@pytest.mark.parametrize("file", ["poses", "pose_corrections"])
def test_changed_poses_are_reported(file: str, exact_run: RunFolder, recorded: Inputs) -> None:
    path: Path = exact_run.poses if file == "poses" else exact_run.pose_corrections("b001")
    path.write_text("{}")
    (clause,) = changes(exact_run, recorded)
    assert (
        clause
        == {
            "poses": "the poses of the run were aligned again since",
            "pose_corrections": "poses of block b001 were refined again since",
        }[file]
    )


def test_inputs_are_read_as_written(exact_run: RunFolder, recorded: Inputs) -> None:
    exact_run.poses.write_text("{}")
    exact_run.pose_corrections("b001").write_text("{}")
    now = CurrentInputs(exact_run).of(BLOCKS)
    assert now.poses is not None
    assert now.pose_corrections.keys() == {"b001"}
    assert msgspec.convert(msgspec.to_builtins(now), Inputs) == now != recorded
    assert merge_inputs([now.of([name]) for name in BLOCKS]) == now
