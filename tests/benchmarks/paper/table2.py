"""Effect of the number of blocks: the sample town with 1, 2, 4 and 8 blocks along its main street.

    python -m tests.benchmarks.paper.table2 [--steps 600] [--seeds 0] [--blocks 1 2 4 8] [--table 15] [--out FILE]

`equal_size`: every block has hash tables of the same size, so more blocks have more parameters. `equal_total`: one
block has tables as large as those of eight blocks together. If both need the same tables, they share one training.
Tables are so small that one of the smallest cannot represent the town; only then can more blocks help.

Every block trains for the same number of steps, as in the paper, so more blocks train longer in total. Every row lists
the total steps and parameters.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # before torch, which reads the wait policy on import

from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.partitioning.block import Block  # noqa: E402
from tests.benchmarks.one_block import SAMPLE  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import Trial, commit_of, run_all, run_trial, scores, work_folder  # noqa: E402

STREET = (-36.0, 36.0)
"""Start and end of the drives (m east)."""
CAMERA_HEIGHT = 2.3
"""Height of the cameras (m)."""
MAX_COUNT = 8
COLUMNS = ("equal_size", "equal_total")

Cell = tuple[int, str]
"""Number of blocks, and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All settings except the seeds and the rows."""

    steps: int
    table: int
    """log2 of the entries of the smallest hash tables."""
    capture: Path = SAMPLE
    threads: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"steps": self.steps, "table": self.table, "capture": self.capture.name}

    def folder(self, work: Path, cell: Cell, seed: int) -> Path:
        count, column = cell
        name = f"blocks{count}-table{self.tables(column, count)}-{seed}"
        return work_folder(work, "table2", self.settings) / name

    def tables(self, column: str, count: int) -> int:
        """Return log2 of the table entries per block, for `count` blocks."""
        return self.table + (0 if column == "equal_size" else (MAX_COUNT // count).bit_length() - 1)


def place_blocks(count: int) -> tuple[Block, ...]:
    """Return evenly spaced blocks along the street, neighbors overlapping by half; a single block just covers it."""
    spacing = (STREET[1] - STREET[0]) / count
    radius = spacing if count > 1 else spacing / 2
    origins = [STREET[0] + (i + 0.5) * spacing for i in range(count)]
    return tuple(Block(name=f"b{i:03d}", origin=(x, 0.0, CAMERA_HEIGHT), radius=radius) for i, x in enumerate(origins))


def table_sizes(table: int) -> dict[str, int]:
    """Return the sizes of all tables of a field, with the ratios of the draft preset (17, 15, 14)."""
    return {
        "log2_hashmap_size": table,
        "proposal_log2_hashmap_size": table - 2,
        "visibility_log2_hashmap_size": table - 3,
    }


def run_city(experiment: Experiment, cell: Cell, seed: int, work: Path) -> dict[str, Any]:
    """Train and evaluate one city; completed steps are skipped."""
    (count, column), folder = cell, experiment.folder(work, cell, seed)
    capture, shape = read_transforms(experiment.capture), table_sizes(experiment.tables(column, count))
    options = {"steps": experiment.steps, "seed": seed, "threads": experiment.threads}
    trial = Trial(capture=capture, evaluation_capture=capture, blocks=place_blocks(count), options=options, shape=shape)
    result = scores(run_trial(folder, trial))
    return {**result, "parameters": parameters(folder), "steps": count * experiment.steps}


def parameters(folder: Path) -> int:
    """Return the number of parameters of all blocks of a run, including appearance codes."""
    run = RunFolder(folder)
    fields = [load_field(run.field(name)) for name in run.trained_blocks()]
    return sum(value.numel() for field in fields for value in field.parameters())


def run_table(experiment: Experiment, counts: Sequence[int], seeds: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """Return the rows of the table: each number of blocks in both columns, over all seeds."""
    values = run_all(cells(counts), seeds, lambda cell, seed: run_city(experiment, cell, seed, work))
    return [{"blocks": count, **{column: entry(values[count, column]) for column in COLUMNS}} for count in counts]


def cells(counts: Sequence[int]) -> list[Cell]:
    """Return the cells of the table, row by row."""
    return [(count, column) for count in counts for column in COLUMNS]


def entry(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one cell of the table: scores over the seeds, and values independent of the seed."""
    fixed = ("parameters", "steps")
    measured = [{key: number for key, number in value.items() if key not in fixed} for value in values]
    return {**summary(measured), **{key: values[0][key] for key in fixed}}


def flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows for printing, one line per cell."""
    return [{"blocks": row["blocks"], "column": column, **row[column]} for column in COLUMNS for row in rows]


def main() -> None:
    """Print the table and one line of JSON, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--blocks", type=int, nargs="+", choices=(1, 2, 4, 8), default=[1, 2, 4, 8])
    parser.add_argument("--table", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=RESULTS / "table2.json")
    options = parser.parse_args()
    experiment = Experiment(steps=options.steps, table=options.table, threads=options.threads)
    rows = run_table(experiment, options.blocks, options.seeds, WORK)
    folders = [experiment.folder(WORK, cell, seed) for cell in cells(options.blocks) for seed in options.seeds]
    publish(
        "table2",
        options.out,
        ("blocks", "column", "psnr", "psnr_masked", "ssim", "parameters", "steps"),
        rows,
        flat(rows),
        commits=[commit_of(folder) for folder in folders],
        seeds=options.seeds,
        settings=experiment.settings,
    )


if __name__ == "__main__":
    main()
