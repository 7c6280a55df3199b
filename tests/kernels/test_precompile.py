"""Compiling ahead: what fails is named with its reason, and nothing is marked as compiled then."""

import sys
from pathlib import Path

import pytest

from blocknerf.kernels import precompile as ahead
from blocknerf.kernels.precompile import GROUPS, Failure, is_precompiled, precompile
from pipelines.train import _compile_kernels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def let_processes(do: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell stand in for Python in the processes of `precompile`; the group is `$3`."""
    interpreter = cache / "python"
    interpreter.write_text(f"#!/bin/sh\n{do}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("printf 'Traceback\\n  File\\nImportError: no llvmlite\\n\\n' >&2; exit 1", "ImportError: no llvmlite"),
        ("printf 'TypingError: \\377\\n' >&2; exit 1", "TypingError: \\xff"),
        ("exit 3", "its process failed with code 3"),
        ("echo 'UserWarning: slow' >&2; kill -9 $$", "its process was ended by signal 9"),
    ],
)
def test_a_group_that_fails_is_named_with_its_reason(
    cache: Path, monkeypatch: pytest.MonkeyPatch, do: str, reason: str
) -> None:
    let_processes(f'if [ "$3" = networks ]; then {do}; fi', cache, monkeypatch)
    assert precompile(2) == (Failure(group="networks", reason=reason),)
    assert not is_precompiled()


def test_what_is_said_without_an_error_is_no_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_processes("echo 'UserWarning: slow' >&2", cache, monkeypatch)
    assert precompile(2) == ()
    assert is_precompiled()


def test_a_process_says_what_it_cannot_compile(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "GROUPS", {"nothing": lambda: None})
    assert precompile() == (Failure(group="nothing", reason="KeyError: 'nothing'"),)


def test_training_says_what_failed_and_what_happens_next(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_processes("""case "$3" in marching|others) echo "TypingError: of $3" >&2; exit 1;; esac""", cache, monkeypatch)
    _compile_kernels(2)
    _, compiled, *failed = capsys.readouterr().out.splitlines()
    assert compiled.startswith(f"kernels: 2 of {len(GROUPS)} groups compiled in ")
    after = "its kernels compile when they are first called, or fail there with the full error"
    assert failed == [
        f"kernels: the group {group} failed to compile: TypingError: of {group}; {after}"
        for group in ("marching", "others")
    ]


def test_training_calls_compiled_what_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    let_processes("exit 0", cache, monkeypatch)
    for _ in range(2):
        _compile_kernels(2)
    assert [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["kernels: compiled"]
