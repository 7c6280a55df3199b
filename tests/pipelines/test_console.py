"""What jobs print: one line each, in which nothing that a name holds acts on the terminal."""

import io

import pytest
from rich.console import Console

from pipelines import console
from pipelines.console import log, print_table, progress, table

HOSTILE, SHOWN = "drive\x1b[2J\u202e", r"drive\x1b[2J\u202e"


def test_a_line_shows_what_acts_as_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    log(f"{HOSTILE}\nforged line :smile: [red]")
    assert capsys.readouterr().out == f"{SHOWN}\\nforged line :smile: [red]\n"


def test_a_table_does_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(table(("segment", "images"), [(HOSTILE, "3")]))
    told = capsys.readouterr().out
    assert SHOWN in told
    assert "\x1b" not in told


def test_a_bar_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda: Console(file=terminal, force_terminal=True, width=100))
    assert list(progress([1, 2], HOSTILE, 2)) == [1, 2]
    assert SHOWN in terminal.getvalue()
    assert HOSTILE not in terminal.getvalue()
