"""Table 1 in small: every row is trained and judged, and the rows of a seed are compared with one another."""

from dataclasses import replace
from pathlib import Path

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.synthetic.shots import SampleSpec
from blocknerf.images import image_size
from tests.benchmarks.paper.behind import EmptyTown
from tests.benchmarks.paper.table1 import BLOCK, ROWS, Bench, Experiment, table
from tests.benchmarks.paper.town import without_exposures, without_masks
from tests.benchmarks.paper.trials import in_blocks


@pytest.fixture
def bench(tmp_path: Path, town: Capture, town_spec: SampleSpec, empty_town: EmptyTown) -> Bench:
    experiment = Experiment(steps=10, town=town_spec, threads=1)
    return Bench(experiment=experiment, work=tmp_path, true=in_blocks(town, (BLOCK,)), empty=empty_town)


def test_every_row_in_small(bench: Bench, tmp_path: Path) -> None:
    rows = {row["name"]: row for row in bench.run(list(ROWS), [3])}
    assert list(rows) == ["full", "no_appearance", "no_exposure", "no_pose", "no_masks", "robust", "full_thrice"]
    assert rows["full"]["below_full"] == 0.0
    assert len({row["psnr_masked"] for row in rows.values()}) > 4
    for name, row in rows.items():
        assert 5.0 < row["psnr"] < 40.0, name
        assert 5.0 < row["behind_cars"] < 40.0, name
        assert row["centimeters_before"] == rows["full"]["centimeters_before"] > 3.0, name
        assert (row["centimeters"] == row["centimeters_before"]) == (name == "no_pose"), name
    bench.show_cars(3, tmp_path / "cars.jpg")
    assert image_size(tmp_path / "cars.jpg") == (4 * 24 + 3 * 2, 3 * 14 + 2 * 2)


def test_each_seed_has_its_own_pose_error(bench: Bench) -> None:
    (row,) = bench.run(["no_pose"], [0, 1])
    assert len(set(row["centimeters_before_seeds"])) == 2
    assert row["psnr_spread"] > 0.0


def test_rows_are_compared_seed_by_seed() -> None:
    scores = {"full": [20.0, 24.0], "no_pose": [19.0, 22.5]}
    rows = table({name: [{"psnr_masked": value} for value in values] for name, values in scores.items()})
    assert [row["below_full"] for row in rows] == [0.0, 1.25]
    assert rows[1]["below_full_seeds"] == [1.0, 1.5]
    assert rows[1]["below_full_spread"] == pytest.approx(0.3536)
    alone = table({"no_pose": [{"psnr_masked": value} for value in scores["no_pose"]]})
    assert "below_full" not in alone[0]


def test_only_what_a_row_is_named_for_is_taken_out() -> None:
    plain = ROWS["full"]
    assert ROWS["no_appearance"] == replace(plain, shape={"code_size": 0})
    assert ROWS["no_exposure"] == replace(plain, change=without_exposures)
    assert ROWS["no_pose"] == replace(plain, options={"pose_refinement": False})
    assert ROWS["no_masks"] == replace(plain, change=without_masks)
    assert ROWS["full_thrice"] == replace(plain, options={"pose_rounds": 3})
    assert ROWS["robust"].change is without_masks
    assert set(ROWS["robust"].options) == {"trim"}


def test_an_empty_town_is_the_photograph_without_its_cars(town: Capture, empty_town: EmptyTown) -> None:
    moved, still = [], []
    for index in range(0, len(town), 7):
        photo = town.read_image(index) / 255.0
        error = ((empty_town.photograph(town.frames[index].name).numpy() - photo) ** 2).mean(-1)
        usable = town.read_mask(index)
        moved.extend(error[~usable])
        still.extend(error[usable])
    assert sum(moved) / len(moved) > 4.0 * sum(still) / len(still)
