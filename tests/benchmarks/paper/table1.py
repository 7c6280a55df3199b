"""What each component of the method is worth: one block of the sample city, with one component taken out at a time.

    python -m tests.benchmarks.paper.table1 [--steps 900] [--seeds 0 1 2] [--rows full no_pose] [--out FILE]

Six drives pass the block, two of each hour; the exposure wanders by a stop, so that it does not tell the hour;
a jam crawls in the lane beside each drive; each drive's poses are displaced by 10 cm and 0.3 degrees, otherwise for
each seed. Components are taken out of the capture (masks, exposures) or of the field's shape (codes); `robust` has
no masks but the trimmed loss; `full_thrice` looks for poses in three rounds. All rows of a seed share the
displacements and are judged with the same masks.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

from tests.benchmarks.paper.translation_noise import translation_noise  # noqa: E402

from blocknerf.capture.capture import Capture, read_capture  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.partition.block import Block  # noqa: E402
from blocknerf.town.views import SampleSpec  # noqa: E402
from pipelines.evaluate import EvalImage  # noqa: E402
from tests.benchmarks.paper.behind import EmptyTown, behind_cars  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.strips import busiest, write_comparison  # noqa: E402
from tests.benchmarks.paper.town import (  # noqa: E402
    photograph,
    with_masks_of,
    with_pose_error,
    without_exposures,
    without_masks,
)
from tests.benchmarks.paper.trials import (  # noqa: E402
    Trial,
    commit_of,
    every,
    held_out_exams,
    in_blocks,
    run_trial,
    scores,
    trained_poses,
    work_folder,
)

TOWN = SampleSpec(drives=6, positions=20, exposure_jitter=1.0, traffic="dense")
BLOCK = Block(name="b000", origin=(-22.0, 0.0, 2.3), radius=18.0)
"""Around the western intersection."""
METERS, DEGREES = 0.1, 0.3
TRIM = 0.15
BUSY = 8
"""Photographs, those with the most moving cars, in which what stands behind the cars is judged."""
SHOWN = 3
"""Of these, as pictures."""
COLUMNS = ("name", "psnr", "psnr_masked", "behind_cars", "ssim", "below_full", "centimeters", "degrees")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A capture with something taken out of it, and how it is trained."""

    change: Callable[[Capture], Capture] = field(default=lambda capture: capture)
    shape: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


ROWS = {
    "full": Row(),
    "no_appearance": Row(shape={"appearance_dim": 0}),
    "no_exposure": Row(change=without_exposures),
    "no_pose": Row(options={"pose_refinement": False}),
    "no_masks": Row(change=without_masks),
    "robust": Row(change=without_masks, options={"robust_trim": TRIM}),
    "full_thrice": Row(options={"pose_restarts": 3}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All that decides what comes out, but for the seeds."""

    steps: int
    town: SampleSpec = TOWN
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        facts = {"steps": self.steps, "block": asdict(BLOCK), "town": asdict(self.town)}
        return facts | {"translation_noise": METERS, "rotation_noise": DEGREES, "robust_trim": TRIM}

    def folder(self, work: Path) -> Path:
        return work_folder(work, "table1", self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An experiment with its photographs at hand."""

    experiment: Experiment
    work: Path
    true: Capture
    """The block's photographs, poses exact."""
    empty: EmptyTown

    @classmethod
    def of(cls, experiment: Experiment, work: Path) -> "Bench":
        """Take the photographs where they are not there yet."""
        true = in_blocks(photograph(work / "table1_town", experiment.town), (BLOCK,))
        return cls(experiment=experiment, work=work, true=true, empty=EmptyTown(experiment.town))

    def folder(self, name: str, seed: int) -> Path:
        return self.experiment.folder(self.work) / f"{name}-{seed}"

    def run_row(self, name: str, seed: int) -> dict[str, float | None]:
        """Train and judge one row with one seed; trained already, it is only judged."""
        row, given = ROWS[name], self.given(seed)
        seen = row.change(given)
        options = {"steps": self.experiment.steps, "seed": seed, "threads": self.experiment.threads}
        trial = Trial(
            capture=seen,
            judged=with_masks_of(given, seen),
            blocks=(BLOCK,),
            options={**options, "pose_refinement": True, "pose_restarts": 1, **row.options},
            shape=row.shape,
        )
        found = scores(run_trial(self.folder(name, seed), trial))
        return {
            **found,
            "behind_cars": behind_cars(*self.trained(name, seed), self.empty),
            **self.pose_errors(name, seed),
        }

    def given(self, seed: int) -> Capture:
        """The photographs with the poses that training is given."""
        return with_pose_error(self.true, self.experiment.town, meters=METERS, degrees=DEGREES, seed=seed)

    def trained(self, name: str, seed: int) -> tuple[CityRenderer, list[EvalImage]]:
        """What a row was trained to, and the photographs kept back in which most moves."""
        run = RunFolder(self.folder(name, seed))
        return CityRenderer(run), busiest(held_out_exams(run, read_capture(run.capture)), BUSY)

    def pose_errors(self, name: str, seed: int) -> dict[str, float]:
        """Mean errors of the poses, as given and as trained, in centimeters and degrees."""
        given = self.given(seed)
        trained, truth = trained_poses(self.folder(name, seed), given), self.true.cameras().camera_to_world
        before, after = (translation_noise(each.cameras().camera_to_world, truth) for each in (given, trained))
        return {
            "centimeters_before": before[0],
            "degrees_before": before[1],
            "centimeters": after[0],
            "degrees": after[1],
        }

    def run(self, names: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of the table, with every seed."""
        return table(every(names, seeds, self.run_row))

    def show_cars(self, seed: int, path: Path) -> None:
        """Photographs with moving cars, and what trainings with masks, without, and trimmed make of them."""
        found = [self.trained(name, seed) for name in ("full", "no_masks", "robust")]
        write_comparison([(renderer, exams[:SHOWN]) for renderer, exams in found], path)


def table(values: Mapping[str, Sequence[Mapping[str, float | None]]]) -> list[dict[str, Any]]:
    """The rows of the result: means, spreads, and how far each lies below the full method, where that is
    among them, seed by seed."""
    rows = []
    for name, seeds in values.items():
        own = [dict(value) for value in seeds]
        for mine, full in zip(own, values.get("full", ()), strict="full" in values):
            mine["below_full"] = full["psnr_masked"] - mine["psnr_masked"]
        rows.append({"name": name, **summary(own)})
    return rows


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "table1.json")
    options = parser.parse_args()
    experiment = Experiment(steps=options.steps, threads=options.threads)
    bench = Bench.of(experiment, WORK)
    rows = bench.run(options.rows, options.seeds)
    publish(
        "table1",
        options.out,
        COLUMNS,
        rows,
        commits=[commit_of(bench.folder(name, seed)) for name in options.rows for seed in options.seeds],
        seeds=options.seeds,
        settings=experiment.settings,
    )
    if {"full", "no_masks", "robust"} <= set(options.rows):
        bench.show_cars(options.seeds[0], options.out.with_name("transients.jpg"))


if __name__ == "__main__":
    main()
