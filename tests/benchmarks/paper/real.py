"""Ablation on real images: one block of a street capture that includes its raw navigation poses.

    python -m tests.benchmarks.paper.real ../shared/data/street_kitti0005 [--steps 900] [--seeds 0 1 2] [--out FILE]

`adjusted` poses are from bundle adjustment, `raw` poses from GPS and IMU. The error of raw poses drifts along the path,
so every pose segment of a few meters (`--pose-segment-length`) gets its own correction. `raw_refined_thrice` refines in
three rounds, each with a new field and the poses of the previous round. `gap_recovered` is the fraction of the PSNR
loss of raw poses that refinement recovers. Distances to the adjusted poses are means after a common rigid alignment.
The capture has no exposures and no masks: those rows of table 1 do not apply, and `robust` is compared with `adjusted`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

from blocknerf.capture.capture import Capture  # noqa: E402
from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.partitioning.block import Block  # noqa: E402
from blocknerf.partitioning.placement import place_blocks  # noqa: E402
from tests.benchmarks.paper.pose_error import pose_error  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import (  # noqa: E402
    Trial,
    commit_of,
    in_blocks,
    run_all,
    run_trial,
    scores,
    trained_poses,
    work_folder,
)

RAW = "transform_matrix_oxts"
TRIM = 0.15
NO_GAP = 0.01
"""Minimum PSNR loss of raw poses (dB) for a meaningful `gap_recovered`."""
COLUMNS = ("name", "psnr", "ssim", "gap_recovered", "centimeters", "degrees")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Input poses and training options of the block."""

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
    """All settings except the seeds."""

    capture: Path
    steps: int
    pose_segment_length: float
    """Path length per pose correction, in the capture's unit."""
    block: int
    """Index of the block in the placement along the route."""
    downscale: int = 1
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        settings = {key: value for key, value in asdict(self).items() if key not in ("capture", "threads")}
        return {"capture": self.capture.name, **settings, "robust_trim": TRIM}

    def folder(self, work: Path, name: str, seed: int) -> Path:
        return work_folder(work, "real", self.settings) / f"{name}-{seed}"


def run_row(experiment: Experiment, name: str, seed: int, work: Path) -> dict[str, float | None]:
    """Train and evaluate one row with one seed; completed steps are skipped."""
    row, true, raw, block = ROWS[name], *captures(experiment)
    capture = raw if row.raw else true
    fixed = {key: getattr(experiment, key) for key in ("steps", "downscale", "threads")} | {"seed": seed}
    refines = {"pose_segment_length": experiment.pose_segment_length} if row.options.get("pose_refinement") else {}
    options = {**fixed, **refines, **row.options}
    trial = Trial(capture=capture, evaluation_capture=capture, blocks=(block,), options=options, shape=row.shape)
    folder = experiment.folder(work, name, seed)
    result = scores(run_trial(folder, trial))
    trained = trained_poses(folder, capture).cameras().camera_to_world
    centimeters, degrees = pose_error(trained, true.cameras().camera_to_world)
    return {"psnr": result["psnr"], "ssim": result["ssim"], "centimeters": centimeters, "degrees": degrees}


def captures(experiment: Experiment) -> tuple[Capture, Capture, Block]:
    """Return the block's frames with adjusted poses and with raw poses, and the block."""
    adjusted = read_transforms(experiment.capture)
    block = place_blocks(adjusted, "route", None, None)[experiment.block]
    true = in_blocks(adjusted, (block,))
    poses = {frame.name: frame.camera_to_world for frame in read_transforms(experiment.capture, poses=RAW).frames}
    frames = tuple(replace(frame, camera_to_world=poses[frame.name]) for frame in true.frames)
    return true, replace(true, frames=frames), block


def table(values: Mapping[str, Sequence[dict[str, float | None]]]) -> list[dict[str, Any]]:
    """Return the rows of the result, with the recovered gap per seed if its reference rows are present."""
    rows = []
    for name, seeds in values.items():
        trials = [dict(value) for value in seeds]
        if name.startswith("raw_refined") and {"adjusted", "raw"} <= values.keys():
            for trial, best, worst in zip(trials, values["adjusted"], values["raw"], strict=True):
                gap = best["psnr"] - worst["psnr"]
                trial["gap_recovered"] = (trial["psnr"] - worst["psnr"]) / gap if abs(gap) > NO_GAP else None
        rows.append({"name": name, **summary(trials)})
    return rows


def run_table(experiment: Experiment, names: Sequence[str], seeds: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """Return the rows of the result over all seeds."""
    return table(run_all(names, seeds, lambda name, seed: run_row(experiment, name, seed, work)))


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("capture", type=Path)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--pose-segment-length", type=float, default=1.0)
    parser.add_argument("--block", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "real.json")
    options = parser.parse_args()
    keys = ("capture", "steps", "pose_segment_length", "block", "threads")
    experiment = Experiment(**{key: getattr(options, key) for key in keys})
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
