"""Table 1 with few steps: all rows are trained, evaluated and compared per seed."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.images import image_size
from blocknerf.town.views import SampleSpec
from blocknerf.training import setup
from blocknerf.training.trainer import Trainer
from tests.benchmarks.paper.behind import EmptyTown
from tests.benchmarks.paper.table1 import BLOCK, ROWS, TRIM, Bench, Experiment, table
from tests.benchmarks.paper.trials import in_blocks


@pytest.fixture
def bench(tmp_path: Path, town: Capture, town_spec: SampleSpec, empty_town: EmptyTown) -> Bench:
    experiment = Experiment(steps=10, town=town_spec, threads=1)
    return Bench(experiment=experiment, work=tmp_path, true=in_blocks(town, (BLOCK,)), empty=empty_town)


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """All trainers that the train job creates, in order."""
    created: list[Trainer] = []

    def create(*args: Any) -> Trainer:
        created.append(Trainer(*args))
        return created[-1]

    monkeypatch.setattr(setup, "Trainer", create)
    return created


FULL = {"codes": True, "exposures": True, "masks": True, "poses": True, "rounds": 1, "robust_trim": 0.0}
CHANGES = {
    "full": {},
    "no_appearance": {"codes": False},
    "no_exposure": {"exposures": False},
    "no_pose": {"poses": False},
    "no_masks": {"masks": False},
    "robust": {"masks": False, "robust_trim": TRIM},
    "full_thrice": {"rounds": 3},
}


def components(trainer: Trainer) -> dict[str, Any]:
    """Return the components of the method that a training has."""
    config, frames = trainer.config, [trainer.pixels.capture.frames[i] for i in trainer.pixels.frames]
    return {
        "codes": trainer.field.appearance_codes.shape[1] > 0,
        "exposures": any(frame.exposure is not None for frame in frames),
        "masks": any(frame.mask is not None for frame in frames),
        "poses": config.pose_refinement,
        "rounds": config.pose_restarts,
        "robust_trim": config.robust_trim,
    }


def test_all_rows(bench: Bench, tmp_path: Path, trainers: list[Trainer]) -> None:
    rows = {row["name"]: row for row in bench.run(list(ROWS), [3])}
    assert {name: components(trainer) for name, trainer in zip(rows, trainers, strict=True)} == {
        name: FULL | change for name, change in CHANGES.items()
    }
    assert rows["full"]["below_full"] == 0.0
    for name, row in rows.items():
        evaluated = read_capture(RunFolder(bench.folder(name, 3)).capture)
        assert [frame.mask for frame in evaluated.frames] == [frame.mask for frame in bench.true.frames], name
        assert all(math.isfinite(row[key]) for key in ("psnr", "psnr_masked", "behind_cars", "ssim")), name
        assert row["centimeters_before"] == rows["full"]["centimeters_before"] > 3.0, name
        assert (row["centimeters"] == row["centimeters_before"]) == (name == "no_pose"), name
    bench.show_cars(3, tmp_path / "cars.jpg")
    assert image_size(tmp_path / "cars.jpg") == (4 * 24 + 3 * 2, 3 * 14 + 2 * 2)
    (row,) = bench.run(["no_pose"], [3, 4])
    assert len(trainers) == len(ROWS) + 1, "what is trained is not trained again"
    assert len(set(row["centimeters_before_seeds"])) == 2, "pose errors differ by seed"
    assert row["psnr_std"] > 0.0


def test_training_raises_the_scores_reproducibly(bench: Bench, tmp_path: Path) -> None:
    untrained, trained = (replace(bench, experiment=replace(bench.experiment, steps=steps)) for steps in (1, 60))
    before, after = (row.run_row("full", 3) for row in (untrained, trained))
    assert after["psnr_masked"] > before["psnr_masked"] + 0.7
    assert after["behind_cars"] > before["behind_cars"] + 2.0
    assert replace(untrained, work=tmp_path / "again").run_row("full", 3) == before


def test_rows_are_compared_per_seed() -> None:
    scores = {"full": [20.0, 24.0], "no_pose": [19.0, 22.5]}
    rows = table({name: [{"psnr_masked": value} for value in values] for name, values in scores.items()})
    assert [row["below_full"] for row in rows] == [0.0, 1.25]
    assert rows[1]["below_full_seeds"] == [1.0, 1.5]
    assert rows[1]["below_full_std"] == pytest.approx(0.3536)
    alone = table({"no_pose": [{"psnr_masked": value} for value in scores["no_pose"]]})
    assert "below_full" not in alone[0]


def test_an_empty_town_differs_only_at_cars(town: Capture, empty_town: EmptyTown) -> None:
    moving, static = [], []
    for index in range(0, len(town), 7):
        photo = town.read_image(index) / 255.0
        error = ((empty_town.image(town.frames[index].name).numpy() - photo) ** 2).mean(-1)
        usable = town.read_mask(index)
        moving.extend(error[~usable])
        static.extend(error[usable])
    assert sum(moving) / len(moving) > 4.0 * sum(static) / len(static)
