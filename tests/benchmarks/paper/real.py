"""What pays on real photographs: one block of a street capture whose raw navigation poses are kept with it.

    python -m tests.benchmarks.paper.real ../shared/data/street_kitti0005 [--steps 900] [--seeds 0 1 2] [--out FILE]

`adjusted` poses are those of bundle adjustment, `raw` ones of GPS and inertia, whose error wanders along the way: one
offset for the whole drive cannot follow it, so every few meters (`--stretch`) get their own.
`raw_refined_thrice` looks for them in three rounds, each with a field begun anew from the poses of the one before.
`gap_recovered` is how much of what raw poses cost in PSNR is won back by refining them. Distances from the adjusted
poses are means after one common motion. The capture has neither exposures nor masks: rows of table 1 without them
have nothing to take out here, and `robust` is to be compared with `adjusted`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

from tests.benchmarks.paper.translation_noise import translation_noise  # noqa: E402

from blocknerf.capture.capture import Capture  # noqa: E402
from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.partition.block import Block  # noqa: E402
from blocknerf.partition.placement import place_blocks  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import (  # noqa: E402
    Trial,
    commit_of,
    every,
    in_blocks,
    run_trial,
    scores,
    trained_poses,
    work_folder,
)

RAW = "transform_matrix_oxts"
TRIM = 0.15
NO_GAP = 0.01
"""Where raw poses cost fewer decibels than this, there is nothing to recover."""
COLUMNS = ("name", "psnr", "ssim", "gap_recovered", "centimeters", "degrees")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Which poses are given, and how the block is trained."""

    raw: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, Any] = field(default_factory=dict)


REFINED = {"pose_refinement": True, "pose_restarts": 1}
ROWS = {
    "adjusted": Row(),
    "adjusted_refined": Row(options=REFINED),
    "raw": Row(raw=True),
    "raw_refined": Row(raw=True, options=REFINED),
    "raw_refined_thrice": Row(raw=True, options={**REFINED, "pose_restarts": 3}),
    "no_appearance": Row(shape={"appearance_dim": 0}),
    "robust": Row(options={"robust_trim": TRIM}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All that decides what comes out, but for the seeds."""

    capture: Path
    steps: int
    stretch: float
    """Way that has one pose correction, in the capture's unit."""
    block: int
    """Which of the blocks that placement along the route gives."""
    downscale: int = 1
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        facts = {key: value for key, value in asdict(self).items() if key not in ("capture", "threads")}
        return {"capture": self.capture.name, **facts, "robust_trim": TRIM}

    def folder(self, work: Path, name: str, seed: int) -> Path:
        return work_folder(work, "real", self.settings) / f"{name}-{seed}"


def run_row(experiment: Experiment, name: str, seed: int, work: Path) -> dict[str, float | None]:
    """Train and judge one row with one seed; at once where that is done already."""
    row, true, raw, block = ROWS[name], *captures(experiment)
    given = raw if row.raw else true
    fixed = {key: getattr(experiment, key) for key in ("steps", "downscale", "threads")} | {"seed": seed}
    refines = {"pose_segment_length": experiment.stretch} if row.options.get("pose_refinement") else {}
    options = {**fixed, **refines, **row.options}
    trial = Trial(capture=given, judged=given, blocks=(block,), options=options, shape=row.shape)
    folder = experiment.folder(work, name, seed)
    found = scores(run_trial(folder, trial))
    trained = trained_poses(folder, given).cameras().camera_to_world
    centimeters, degrees = translation_noise(trained, true.cameras().camera_to_world)
    return {"psnr": found["psnr"], "ssim": found["ssim"], "centimeters": centimeters, "degrees": degrees}


def captures(experiment: Experiment) -> tuple[Capture, Capture, Block]:
    """The block's frames with adjusted poses, the same ones with raw poses, and the block."""
    adjusted = read_transforms(experiment.capture)
    block = place_blocks(adjusted, "route", None, None)[experiment.block]
    true = in_blocks(adjusted, (block,))
    poses = {frame.name: frame.camera_to_world for frame in read_transforms(experiment.capture, poses=RAW).frames}
    frames = tuple(replace(frame, camera_to_world=poses[frame.name]) for frame in true.frames)
    return true, replace(true, frames=frames), block


def table(values: Mapping[str, Sequence[dict[str, float | None]]]) -> list[dict[str, Any]]:
    """The rows of the result; what refinement recovers, seed by seed, where the rows to compare are there."""
    rows = []
    for name, seeds in values.items():
        own = [dict(value) for value in seeds]
        if name.startswith("raw_refined") and {"adjusted", "raw"} <= values.keys():
            for mine, best, worst in zip(own, values["adjusted"], values["raw"], strict=True):
                gap = best["psnr"] - worst["psnr"]
                mine["gap_recovered"] = (mine["psnr"] - worst["psnr"]) / gap if abs(gap) > NO_GAP else None
        rows.append({"name": name, **summary(own)})
    return rows


def run_table(experiment: Experiment, names: Sequence[str], seeds: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """The rows of the result, with every seed."""
    return table(every(names, seeds, lambda name, seed: run_row(experiment, name, seed, work)))


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--stretch", type=float, default=1.0)
    parser.add_argument("--block", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "real.json")
    options = parser.parse_args()
    facts = {key: getattr(options, key) for key in ("capture", "steps", "stretch", "block", "threads")}
    experiment = Experiment(**facts)
    rows = run_table(experiment, options.rows, options.seeds, WORK)
    publish(
        "real",
        options.out,
        COLUMNS,
        rows,
        commits=[commit_of(experiment.folder(WORK, name, seed)) for name in options.rows for seed in options.seeds],
        seeds=options.seeds,
        settings=experiment.settings,
    )


if __name__ == "__main__":
    main()
