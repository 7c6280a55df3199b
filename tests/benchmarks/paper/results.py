"""Results of an experiment, as a small JSON file that records how it was made."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from blocknerf.files import format_json, write_atomic
from pipelines.console import print_table

REPOSITORY = Path(__file__).parents[3]
RESULTS = REPOSITORY / "data_samples" / "results"
WORK = REPOSITORY / "runs" / "paper"
"""Captures and trained blocks; an interrupted experiment resumes from here."""


def commit() -> str:
    """Return the current commit, marked if tracked files other than results differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!data_samples/results")
    return git("rev-parse", "HEAD") + ("-changed" if changed else "")


def summary(values: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the mean of each score over the seeds, its standard deviation, and all values."""
    result: dict[str, Any] = {}
    for key in values[0]:
        seeds = [value[key] for value in values]
        known = [value for value in seeds if value is not None]
        result[key] = round(mean(known), 4) if known else None
        result[f"{key}_std"] = round(stdev(known), 4) if len(known) > 1 else None
        result[f"{key}_seeds"] = [None if value is None else round(value, 4) for value in seeds]
    return result


def write_result(
    path: Path,
    *,
    command: Sequence[str],
    commits: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write a result file atomically."""
    # Paths are relative to the repository, so that the command does not depend on its location.
    words = [os.path.relpath(word, REPOSITORY) if Path(word).is_absolute() else word for word in command]
    document = {
        "command": shlex.join(["python", "-m", *words]),
        "commit": ", ".join(sorted(set(commits))),
        "seeds": list(seeds),
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    write_atomic(path, format_json(document))


def publish(
    name: str,
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]] | None = None,
    *,
    commits: Sequence[str] = (),
    seeds: Sequence[int],
    settings: Mapping[str, Any],
) -> None:
    """Write the result of an experiment, and print it as a table and as one line of JSON.

    Args:
        name: The experiment, a module of this package.
        path: The file to write.
        columns: Columns of the table.
        rows: Rows of the file.
        lines: Rows of the table, if different.
        commits: Commits that trials were started with; the current commit evaluates them.
        seeds: Seeds of the trials.
        settings: All other settings that affect the result.
    """
    command = [f"tests.benchmarks.paper.{name}", *sys.argv[1:]]
    write_result(path, command=command, commits=[commit(), *commits], seeds=seeds, settings=settings, rows=rows)
    print_rows(rows if lines is None else lines, columns)
    print(json.dumps({"benchmark": name, "rows": rows}))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows, with the standard deviation after each mean."""
    table = Table(box=SIMPLE_HEAD)
    for number, title in enumerate(columns):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell(row, column) for column in columns))
    print_table(table)


def cell(row: Mapping[str, Any], column: str) -> str:
    """Return a value as text with its standard deviation, or a dash if there is none.

    >>> cell({"psnr": 23.456, "psnr_std": 0.12}, "psnr")
    '23.46 ± 0.12'
    """
    value, std = row.get(column), row.get(f"{column}_std")
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    digits = 2 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")
