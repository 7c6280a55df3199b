"""What has changed since a product was made is said in one clause a kind."""

from pathlib import Path

import pytest

from blocknerf.capture.json_reader import JsonReader
from blocknerf.city.run_folder import RunFolder
from pipelines.staleness import CurrentInputs, Inputs, changes, join_clauses
from tests.pipelines.conftest import retrain

BLOCKS = ("b000", "b001", "b002")


@pytest.fixture
def then(exact_run: RunFolder) -> Inputs:
    return CurrentInputs(exact_run).of(BLOCKS)


def test_a_run_as_it_was_has_no_changes(exact_run: RunFolder, then: Inputs) -> None:
    assert then.blocks.keys() == set(BLOCKS)
    assert changes(exact_run, then) == ()


def test_several_changes_are_told_together(exact_run: RunFolder, then: Inputs) -> None:
    for name in ("b000", "b001"):
        retrain(exact_run, name, seed=9)
    exact_run.field("b002").unlink()
    assert changes(exact_run, then) == ("blocks b000, b001 were retrained since", "block b002 is no longer trained")


def test_only_the_blocks_of_a_product_count(exact_run: RunFolder, then: Inputs) -> None:
    retrain(exact_run, "b002", seed=9)
    assert changes(exact_run, then.of(["b000", "b001"])) == ()


def test_parts_of_different_moments_are_each_compared(exact_run: RunFolder, then: Inputs) -> None:
    retrain(exact_run, "b000", seed=9)
    later = CurrentInputs(exact_run).of(BLOCKS)
    assert changes(exact_run, later) == ()
    assert changes(exact_run, then, later) == changes(exact_run, later, then) == ("block b000 was retrained since",)


@pytest.mark.parametrize("place", ["poses", "pose_corrections"])
def test_poses_count(place: str, exact_run: RunFolder, then: Inputs) -> None:
    path: Path = exact_run.poses if place == "poses" else exact_run.pose_corrections("b001")
    path.write_text("{}")
    (clause,) = changes(exact_run, then)
    assert (
        clause
        == {
            "poses": "the poses of the run were aligned again since",
            "pose_corrections": "poses of block b001 were refined again since",
        }[place]
    )


def test_inputs_come_back_from_json(exact_run: RunFolder, then: Inputs) -> None:
    exact_run.poses.write_text("{}")
    exact_run.pose_corrections("b001").write_text("{}")
    now = CurrentInputs(exact_run).of(BLOCKS)
    assert now.poses is not None
    assert now.pose_corrections.keys() == {"b001"}
    assert Inputs.read(JsonReader(now.to_json(), "render.json")) == now != then
    assert join_clauses([now.of([name]) for name in BLOCKS]) == now
