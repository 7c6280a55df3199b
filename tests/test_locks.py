"""A lock is held by one process, named in the error of others, and taken over if its holder was killed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocknerf.errors import RunError
from blocknerf.locks import LockedError, clear_abandoned, exclusive, holder

HOLD = """
import sys, time
from pathlib import Path
from blocknerf.locks import exclusive
with exclusive(Path(sys.argv[1]), "block b000: training"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(path: Path) -> "Iterator[subprocess.Popen[str]]":
    """Start a process that holds the lock; it is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_error_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "b000" / "training.lock"
    with other_process(path) as other:
        who = holder(path)
        assert who is not None
        assert f"process {other.pid} on {os.uname().nodename} since 20" in who
        with pytest.raises(LockedError) as caught, exclusive(path, "block b000: training"):
            pass
        assert str(caught.value) == f"block b000: training is already running in {who}; wait for it or stop it"


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    with other_process(path) as other:
        pass
    assert path.exists()
    assert holder(path) is None
    with exclusive(path, "block b000: training") as previous:
        assert previous is not None
        assert f"process {other.pid} on " in previous
    assert not path.exists()


def test_a_lock_is_released_after_success_and_failure(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    with exclusive(path, "work") as previous:
        assert previous is None
        assert holder(path) is not None
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"), exclusive(path, "work"):
            pass
    with pytest.raises(ZeroDivisionError), exclusive(path, "work"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with exclusive(path, "work"):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x", "host": 1, "since": 1e300}', b"\xff" * 10])
def test_a_lock_file_of_any_content_is_taken_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "training.lock"
    path.write_bytes(content)
    with exclusive(path, "work") as previous:
        assert previous is None


def test_only_an_abandoned_lock_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "training.lock"
    clear_abandoned(path)
    with other_process(path) as other:
        clear_abandoned(path)
        assert holder(path) is not None, f"process {other.pid} still holds it"
    assert path.exists()
    clear_abandoned(path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_not_writable_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(RunError, match=r"training\.lock: cannot be written"),
        exclusive(tmp_path / "file" / "training.lock", "work"),
    ):
        pass
