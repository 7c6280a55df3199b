"""Ablation of the method: one block of the sample city, with one component removed at a time.

    python -m tests.benchmarks.paper.table1 [--steps 900] [--seeds 0 1 2] [--rows full no_pose] [--out FILE]

Six segments pass the block, two per time of day; the exposure varies by a stop, so that it does not reveal the time of
day; the oncoming lane is jammed; the poses of each segment are displaced by 10 cm and 0.3 degrees, differently per
seed. Components are removed from the capture (masks, exposures) or from the field spec (codes); `robust` has the
trimmed loss instead of masks; `full_thrice` refines poses in three rounds. All rows of a seed share the displacements
and are evaluated with the same masks.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

from blocknerf.capture.capture import Capture  # noqa: E402
from blocknerf.capture.capture_file import read_capture  # noqa: E402
from blocknerf.city.renderer import CityRenderer  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.partitioning.block import Block  # noqa: E402
from blocknerf.town.views import SampleSpec  # noqa: E402
from pipelines.evaluate import EvalImage  # noqa: E402
from tests.benchmarks.paper.behind import EmptyTown, behind_cars  # noqa: E402
from tests.benchmarks.paper.pose_error import pose_error  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.strips import most_masked, write_comparison  # noqa: E402
from tests.benchmarks.paper.town import (  # noqa: E402
    sample_capture,
    with_masks_of,
    with_pose_error,
    without_exposures,
    without_masks,
)
from tests.benchmarks.paper.trials import (  # noqa: E402
    Trial,
    commit_of,
    held_out_images,
    in_blocks,
    run_all,
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
NUM_BUSY = 8
"""Number of images with the most moving cars, for `behind_cars`."""
NUM_SHOWN = 3
"""Number of them in the figure."""
COLUMNS = ("name", "psnr", "psnr_masked", "behind_cars", "ssim", "below_full", "centimeters", "degrees")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Change of the capture, and training options."""

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
    """All settings except the seeds."""

    steps: int
    town: SampleSpec = TOWN
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        settings = {"steps": self.steps, "block": asdict(BLOCK), "town": asdict(self.town)}
        return settings | {"translation_noise": METERS, "rotation_noise": DEGREES, "robust_trim": TRIM}

    def folder(self, work: Path) -> Path:
        return work_folder(work, "table1", self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An experiment with its images."""

    experiment: Experiment
    work: Path
    true: Capture
    """The block's images with exact poses."""
    empty: EmptyTown

    @classmethod
    def of(cls, experiment: Experiment, work: Path) -> "Bench":
        """Write the sample if it does not exist, and load it."""
        true = in_blocks(sample_capture(work / "table1_town", experiment.town), (BLOCK,))
        return cls(experiment=experiment, work=work, true=true, empty=EmptyTown(experiment.town))

    def folder(self, name: str, seed: int) -> Path:
        return self.experiment.folder(self.work) / f"{name}-{seed}"

    def run_row(self, name: str, seed: int) -> dict[str, float | None]:
        """Train and evaluate one row with one seed; completed training is skipped."""
        row, displaced = ROWS[name], self.displaced(seed)
        capture = row.change(displaced)
        options = {"steps": self.experiment.steps, "seed": seed, "threads": self.experiment.threads}
        trial = Trial(
            capture=capture,
            evaluation_capture=with_masks_of(displaced, capture),
            blocks=(BLOCK,),
            options={**options, "pose_refinement": True, "pose_restarts": 1, **row.options},
            shape=row.shape,
        )
        result = scores(run_trial(self.folder(name, seed), trial))
        return {
            **result,
            "behind_cars": behind_cars(*self.trained(name, seed), self.empty),
            **self.pose_errors(name, seed),
        }

    def displaced(self, seed: int) -> Capture:
        """Return the images with the displaced poses for training."""
        return with_pose_error(self.true, self.experiment.town, meters=METERS, degrees=DEGREES, seed=seed)

    def trained(self, name: str, seed: int) -> tuple[CityRenderer, list[EvalImage]]:
        """Return the renderer of a trained row, and its held-out images with the most moving cars."""
        run = RunFolder(self.folder(name, seed))
        return CityRenderer(run), most_masked(held_out_images(run, read_capture(run.capture)), NUM_BUSY)

    def pose_errors(self, name: str, seed: int) -> dict[str, float]:
        """Return the mean errors of the displaced and of the refined poses, in centimeters and degrees."""
        displaced = self.displaced(seed)
        trained, truth = trained_poses(self.folder(name, seed), displaced), self.true.cameras().camera_to_world
        before, after = (pose_error(capture.cameras().camera_to_world, truth) for capture in (displaced, trained))
        return {
            "centimeters_before": before[0],
            "degrees_before": before[1],
            "centimeters": after[0],
            "degrees": after[1],
        }

    def run(self, names: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows of the table over all seeds."""
        return table(run_all(names, seeds, self.run_row))

    def show_cars(self, seed: int, path: Path) -> None:
        """Write a figure of images with moving cars, and renderings with masks, without, and with the trimmed loss."""
        trained = [self.trained(name, seed) for name in ("full", "no_masks", "robust")]
        write_comparison([(renderer, images[:NUM_SHOWN]) for renderer, images in trained], path)


def table(values: Mapping[str, Sequence[Mapping[str, float | None]]]) -> list[dict[str, Any]]:
    """Return the rows of the result: means, standard deviations, and the loss per seed against the full method,
    if present."""
    rows = []
    for name, seeds in values.items():
        trials = [dict(value) for value in seeds]
        for trial, full in zip(trials, values.get("full", ()), strict="full" in values):
            trial["below_full"] = full["psnr_masked"] - trial["psnr_masked"]
        rows.append({"name": name, **summary(trials)})
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
