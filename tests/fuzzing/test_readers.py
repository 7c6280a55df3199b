"""Whatever is wrong with a file, its reader gives a valid object or one line; seconds each, the same every time.

`python -m tests.benchmarks.fuzzing` tries far more files, others each time.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from blocknerf.errors import RunError
from tests.fuzzing.judging import READERS, Verdict, judged
from tests.fuzzing.subjects import Subject

EXAMPLES = 60


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    subject = READERS[name](tmp_path)
    valid = subject.path.read_bytes()
    expected = subject.read()
    assert judged(subject, valid, expected) == Verdict(outcome="accepted")
    outcomes = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(content=subject.contents)
    def try_one(content: bytes) -> None:
        verdict = judged(subject, content, expected)
        outcomes.add(verdict.outcome)
        assert verdict.outcome != "fell", verdict.reason

    try_one()
    assert "refused" in outcomes


def refuse(message: str) -> None:
    raise RunError(message)


WRONG: dict[str, Callable[[Path], object]] = {
    "traceback": lambda path: int("x"),
    "hang": lambda path: time.sleep(60),
    "memory": lambda path: bytearray(1 << 42),
    "warning": lambda path: warnings.warn("odd", stacklevel=1),
    "two lines": lambda path: refuse(f"{path}: one\ntwo"),
    "no file named": lambda path: refuse("it is broken"),
    "a whole book": lambda path: refuse(f"{path}: {'x' * 100_000}"),
    "silent change": lambda path: "another value",
    "a file written": lambda path: path.with_name("b").write_text("x"),
    "the file changed": lambda path: path.write_text("x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_judge_finds_what_is_wrong(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    subject = Subject(path=path, read=lambda: WRONG[name](path), contents=some.just(b""), sealed=True)
    assert judged(subject, b"{}", "a value", seconds=0.2).outcome == "fell"


def test_the_judge_lets_pass_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    right = Subject(path=path, read=lambda: "a value", contents=some.just(b""), sealed=True)
    assert judged(right, b"{}", "a value").outcome == "accepted"
    strict = Subject(path=path, read=lambda: refuse(f"{path}: it is broken; mend it"), contents=some.just(b""))
    assert judged(strict, b"{}").outcome == "refused"
