"""What jobs print on the terminal: stage headings, skipped steps, tables and progress."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from blocknerf.errors import printable

Item = TypeVar("Item")
PAGE_WIDTH = 120


def log(message: str) -> None:
    """Print one line for the user."""
    print(printable(message), flush=True)


class _Lines(logging.Handler):
    """Prints the records of a library's logger as lines for the user."""

    def emit(self, record: logging.LogRecord) -> None:
        log(record.getMessage())


@contextmanager
def printing(logger: logging.Logger) -> Iterator[None]:
    """Print what a part of the library reports while it works."""
    handler, level, propagate = _Lines(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table: the first column is left-aligned, the others are right-aligned."""
    result = Table(box=SIMPLE_HEAD)
    for i, title in enumerate(head):
        result.add_column(title, justify="right" if i else "left")
    for row in rows:
        result.add_row(*row)
    return result


def print_table(table: Table) -> None:
    """Print a table. Files and pipes have no width, so they get `PAGE_WIDTH` columns."""
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=PAGE_WIDTH)).print(_Printable(table))


class _Printable:
    """A table with control characters escaped."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self._table, options):
            yield Segment(text if control or text == "\n" else printable(text), style, control)


def skip_if_exists(path: Path) -> bool:
    """Return whether a job's output exists; if so, print that the job is skipped."""
    exists = path.exists()
    if exists:
        log(f"skipping: {path} exists")
    return exists


@contextmanager
def stage(title: str, number: int, total: int) -> Iterator[None]:
    """Print a heading before a stage of a job, and its time after it."""
    start = time.monotonic()
    log(f"[{number}/{total}] {title}")
    yield
    log(f"      {title}: {format_duration(time.monotonic() - start)}")


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items, with a progress bar if standard output is a terminal."""
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total=total, description=escape(printable(what)))


def format_duration(seconds: float) -> str:
    """Return a duration as text.

    >>> format_duration(4.21), format_duration(75), format_duration(3725)
    ('4.2 s', '1 min 15 s', '1 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
