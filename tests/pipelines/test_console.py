"""Output of jobs: control characters in names are escaped."""

import io

import pytest
from rich.console import Console

from pipelines import console
from pipelines.console import log, print_table, progress, table

HOSTILE, ESCAPED = "drive\x1b[2J\u202e", r"drive\x1b[2J\u202e"


def test_a_line_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    log(f"{HOSTILE}\nforged line :smile: [red]")
    assert capsys.readouterr().out == f"{ESCAPED}\\nforged line :smile: [red]\n"


def test_a_table_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(table(("segment", "images"), [(HOSTILE, "3")]))
    output = capsys.readouterr().out
    assert ESCAPED in output
    assert "\x1b" not in output


def test_a_progress_bar_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda: Console(file=terminal, force_terminal=True, width=100))
    assert list(progress([1, 2], HOSTILE, 2)) == [1, 2]
    assert ESCAPED in terminal.getvalue()
    assert HOSTILE not in terminal.getvalue()
