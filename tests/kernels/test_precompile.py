"""Precompilation: failures are reported with their reason, and the cache is then not marked as complete."""

import sys
from pathlib import Path

import pytest

from blocknerf.kernels import precompile as precompile_module
from blocknerf.kernels.precompile import GROUPS, Failure, is_precompiled, precompile
from pipelines.train import _compile_kernels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def fake_python(script: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a shell script instead of Python in the processes of `precompile`; the group is `$3`."""
    interpreter = cache / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("printf 'Traceback\\n  File\\nImportError: no llvmlite\\n\\n' >&2; exit 1", "ImportError: no llvmlite"),
        ("printf 'TypingError: \\377\\n' >&2; exit 1", "TypingError: \\xff"),
        ("exit 3", "its process failed with code 3"),
        ("echo 'UserWarning: slow' >&2; kill -9 $$", "its process was ended by signal 9"),
    ],
)
def test_failed_group_is_reported_with_its_reason(
    cache: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    fake_python(f'if [ "$3" = mlp ]; then {script}; fi', cache, monkeypatch)
    assert precompile(2) == (Failure(group="mlp", reason=reason),)
    assert not is_precompiled()


def test_output_without_an_error_is_not_a_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python("echo 'UserWarning: slow' >&2", cache, monkeypatch)
    assert precompile(2) == ()
    assert is_precompiled()


def test_process_reports_its_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompile_module, "GROUPS", {"nothing": lambda: None})
    assert precompile() == (Failure(group="nothing", reason="KeyError: 'nothing'"),)


def test_training_reports_failed_groups_and_the_consequence(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_python("""case "$3" in marching|rays) echo "TypingError: of $3" >&2; exit 1;; esac""", cache, monkeypatch)
    _compile_kernels(2)
    _, compiled, *failed = capsys.readouterr().out.splitlines()
    assert compiled.startswith(f"compiled 2 of {len(GROUPS)} groups of CPU kernels in ")
    hint = "its kernels compile on first use, or fail there with the full error"
    assert failed == [
        f"warning: CPU kernels: group {group} did not compile: TypingError: of {group}; {hint}"
        for group in ("marching", "rays")
    ]


def test_training_reports_compilation_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_python("exit 0", cache, monkeypatch)
    for _ in range(2):
        _compile_kernels(2)
    assert [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["compiled CPU kernels"]
