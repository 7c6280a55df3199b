"""What dividing a city into blocks is worth: the sample town with 1, 2, 4 and 8 blocks along its main street.

    python -m tests.benchmarks.paper.table2 [--steps 600] [--seeds 0] [--blocks 1 2 4 8] [--table 15] [--out FILE]

`equal_size`: every block has hash tables of the same size, so more blocks hold more parameters. `equal_total`: one
block has tables as large as those of eight together. Where both ask for the same tables, both show one training.
Tables are chosen so small that one of the smallest cannot hold the town; that is when dividing can help at all.

The budget of training is the same number of steps a block, as in the paper: more blocks train longer in total. How
many steps and parameters that makes stands in every row.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocknerf.kernels.threads import set_num_threads

set_num_threads()  # first of all: PyTorch reads how to wait when it is imported

from blocknerf.capture.transforms import read_transforms  # noqa: E402
from blocknerf.city.run_folder import RunFolder  # noqa: E402
from blocknerf.fields.checkpoint import load_field  # noqa: E402
from blocknerf.partition.block import Block  # noqa: E402
from tests.benchmarks.one_block import SAMPLE  # noqa: E402
from tests.benchmarks.paper.results import RESULTS, WORK, publish, summary  # noqa: E402
from tests.benchmarks.paper.trials import Trial, commit_of, every, run_trial, scores, work_folder  # noqa: E402

STREET = (-36.0, 36.0)
"""Where the drives begin and end (m east)."""
EYES = 2.3
"""Height of the cameras (m)."""
MOST = 8
COLUMNS = ("equal_size", "equal_total")

Cell = tuple[int, str]
"""Number of blocks, and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All that decides what comes out, but for the seeds and which rows are asked for."""

    steps: int
    table: int
    """Binary logarithm of the entries in the smallest hash tables."""
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
        """Binary logarithm of the entries in the tables of each of so many blocks."""
        return self.table + (0 if column == "equal_size" else (MOST // count).bit_length() - 1)


def place_blocks(count: int) -> tuple[Block, ...]:
    """Blocks evenly along the street, neighbors overlapping by half; one alone just covers it."""
    spacing = (STREET[1] - STREET[0]) / count
    radius = spacing if count > 1 else spacing / 2
    origins = [STREET[0] + (i + 0.5) * spacing for i in range(count)]
    return tuple(Block(name=f"b{i:03d}", origin=(x, 0.0, EYES), radius=radius) for i, x in enumerate(origins))


def shape_of(table: int) -> dict[str, int]:
    """Every table of a field, in the proportions of the draft preset (17, 15, 14)."""
    return {
        "log2_hashmap_size": table,
        "proposal_log2_hashmap_size": table - 2,
        "visibility_log2_hashmap_size": table - 3,
    }


def run_city(experiment: Experiment, cell: Cell, seed: int, work: Path) -> dict[str, Any]:
    """Train and judge one city; at once where that is done already."""
    (count, column), folder = cell, experiment.folder(work, cell, seed)
    capture, shape = read_transforms(experiment.capture), shape_of(experiment.tables(column, count))
    options = {"steps": experiment.steps, "seed": seed, "threads": experiment.threads}
    trial = Trial(capture=capture, judged=capture, blocks=place_blocks(count), options=options, shape=shape)
    found = scores(run_trial(folder, trial))
    return {**found, "parameters": parameters(folder), "steps": count * experiment.steps}


def parameters(folder: Path) -> int:
    """Numbers that all blocks of a run hold together, appearance codes included."""
    run = RunFolder(folder)
    fields = [load_field(run.field(name)) for name in run.trained_blocks()]
    return sum(value.numel() for field in fields for value in field.parameters())


def run_table(experiment: Experiment, counts: Sequence[int], seeds: Sequence[int], work: Path) -> list[dict[str, Any]]:
    """Each number of blocks in both columns, with every seed."""
    values = every(cells(counts), seeds, lambda cell, seed: run_city(experiment, cell, seed, work))
    return [{"blocks": count, **{column: entry(values[count, column]) for column in COLUMNS}} for count in counts]


def cells(counts: Sequence[int]) -> list[Cell]:
    """Of the table, row by row."""
    return [(count, column) for count in counts for column in COLUMNS]


def entry(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One cell of the table: scores over the seeds, and what does not depend on them."""
    fixed = ("parameters", "steps")
    measured = [{key: number for key, number in value.items() if key not in fixed} for value in values]
    return {**summary(measured), **{key: values[0][key] for key in fixed}}


def flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows for printing: a line a cell."""
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
