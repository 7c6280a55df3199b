"""What an experiment came to, as one small JSON file that says how it was made."""

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
"""Captures and trained blocks; what is done of an experiment that was stopped is found there again."""


def commit() -> str:
    """The commit that runs, marked where tracked files differ from it; results themselves do not count."""

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "--", ".", ":!data_samples/results")
    return ask("rev-parse", "HEAD") + ("-changed" if changed else "")


def summary(values: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Each score's mean over the seeds, its standard deviation, and the values themselves in the seeds' order."""
    found: dict[str, Any] = {}
    for key in values[0]:
        seeds = [value[key] for value in values]
        known = [value for value in seeds if value is not None]
        found[key] = round(mean(known), 4) if known else None
        found[f"{key}_spread"] = round(stdev(known), 4) if len(known) > 1 else None
        found[f"{key}_seeds"] = [None if value is None else round(value, 4) for value in seeds]
    return found


def write_result(
    path: Path,
    *,
    command: Sequence[str],
    commits: Sequence[str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write a result file, whole or not at all."""
    # Paths relative to the repository, so that the command is the same wherever that lies.
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
    """Write what an experiment came to, and print it as a table and as one line of JSON.

    Args:
        name: Of the experiment, a module beside this one.
        path: The file to write.
        columns: Of the table.
        rows: Of the file.
        lines: Of the table, where they are not the rows.
        commits: With which trials were begun; the one that judges them is this one.
        seeds: Of the trials.
        settings: All else that decides what comes out.
    """
    command = [f"tests.benchmarks.paper.{name}", *sys.argv[1:]]
    write_result(path, command=command, commits=[commit(), *commits], seeds=seeds, settings=settings, rows=rows)
    print_rows(rows if lines is None else lines, columns)
    print(json.dumps({"benchmark": name, "rows": rows}))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows by their first key, with the spread beside each mean where there is one."""
    table = Table(box=SIMPLE_HEAD)
    for number, title in enumerate(columns):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell(row, column) for column in columns))
    print_table(table)


def cell(row: Mapping[str, Any], column: str) -> str:
    """A value for people, with its spread; a dash where there is none.

    >>> cell({"psnr": 23.456, "psnr_spread": 0.12}, "psnr")
    '23.46 ± 0.12'
    """
    value, spread = row.get(column), row.get(f"{column}_spread")
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    digits = 2 if abs(value) >= 10 else 3
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
