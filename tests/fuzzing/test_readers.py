"""A reader of a mutated file returns a valid object or raises a one-line error. The mutations are deterministic.

`python -m tests.benchmarks.fuzzing` tries many more files, with random seeds.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocknerf.errors import RunError
from tests.fuzzing.outcomes import READERS, Result, try_reader
from tests.fuzzing.targets import Target

EXAMPLES = 60


@pytest.mark.parametrize("name", READERS)
def test_mutated_file_is_read_or_rejected_with_one_line(name: str, tmp_path: Path) -> None:
    target = READERS[name](tmp_path)
    valid = target.path.read_bytes()
    expected = target.read()
    assert try_reader(target, valid, expected) == Result(outcome="accepted")
    outcomes = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(content=target.contents)
    def try_one(content: bytes) -> None:
        result = try_reader(target, content, expected)
        outcomes.add(result.outcome)
        assert result.outcome != "failed", result.reason

    try_one()
    assert "rejected" in outcomes


def raise_error(message: str) -> None:
    raise RunError(message)


FAULTY_READERS: dict[str, Callable[[Path], object]] = {
    "traceback": lambda path: int("x"),
    "hang": lambda path: time.sleep(60),
    "memory": lambda path: bytearray(1 << 42),
    "warning": lambda path: warnings.warn("odd", stacklevel=1),
    "two lines": lambda path: raise_error(f"{path}: one\ntwo"),
    "missing file name": lambda path: raise_error("it is corrupt"),
    "long message": lambda path: raise_error(f"{path}: {'x' * 100_000}"),
    "other value": lambda path: "another value",
    "written file": lambda path: path.with_name("b").write_text("x"),
    "changed file": lambda path: path.write_text("x"),
}


@pytest.mark.parametrize("name", FAULTY_READERS)
def test_faulty_reader_fails(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    target = Target(path=path, read=lambda: FAULTY_READERS[name](path), contents=st.just(b""), sealed=True)
    assert try_reader(target, b"{}", "a value", seconds=0.2).outcome == "failed"


def test_correct_reader_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    accepting = Target(path=path, read=lambda: "a value", contents=st.just(b""), sealed=True)
    assert try_reader(accepting, b"{}", "a value").outcome == "accepted"
    rejecting = Target(path=path, read=lambda: raise_error(f"{path}: it is corrupt; delete it"), contents=st.just(b""))
    assert try_reader(rejecting, b"{}").outcome == "rejected"
