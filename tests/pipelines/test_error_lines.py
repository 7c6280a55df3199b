"""Errors of the environment, as libraries raise them, become one line with a hint. Bugs do not."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.errors import CaptureError
from pipelines.error_lines import HINTS, error_line


def nest(depth: int) -> int:
    return nest(depth + 1)


def raised(action: object) -> BaseException:
    """Return the exception that a call raises."""
    try:
        action()  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


MEMORY = {
    "Python": lambda: bytes(1 << 60),
    "NumPy": lambda: np.zeros(1 << 55),
    "PyTorch": lambda: torch.zeros(1 << 55),
}


@pytest.mark.parametrize("library", MEMORY)
def test_out_of_memory_suggests_options(library: str) -> None:
    line = error_line(raised(MEMORY[library]), ["run", "jobs", "downscale"])
    assert line is not None
    assert line.startswith("out of memory (")
    assert line.endswith("; close other programs or raise the limit, or use less with --downscale or --jobs")
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB\nmore"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_other_out_of_memory_errors_are_recognized(error: Exception) -> None:
    line = error_line(error)
    assert line is not None
    assert line.startswith("out of memory (")
    assert "\n" not in line


@pytest.mark.parametrize("number", [*HINTS, errno.EXDEV])
def test_system_errors_name_the_path(number: int) -> None:
    line = error_line(OSError(number, os.strerror(number), "some/path"))
    assert line is not None
    assert line.startswith(f"some/path: {os.strerror(number)}; ")


def test_deeply_nested_input_is_refused() -> None:
    assert error_line(raised(lambda: nest(0))) == "an input file is nested too deeply; simplify it"


def test_a_name_that_cannot_be_encoded_is_refused() -> None:
    line = error_line(raised(lambda: "Straße".encode("ascii")))
    assert line == r"'\xdf' in a name cannot be written as ascii; rename it, or set PYTHONUTF8=1"


def test_own_errors_are_unchanged_and_bugs_have_no_line() -> None:
    assert error_line(CaptureError("a: b; c")) == "a: b; c"
    bugs = (ValueError("x"), KeyError("x"), OSError(errno.EBADF, "Bad file descriptor"), FileNotFoundError("x"))
    assert [error_line(bug) for bug in bugs] == [None] * len(bugs)


def test_a_low_address_space_limit_is_refused_before_libraries_load(tmp_path: Path, repository: Path) -> None:
    line = 'ulimit -v 400000 && exec "$0" -m pipelines sample "$1"'
    command = ["sh", "-c", line, sys.executable, str(tmp_path / "town")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    expected = "blocknerf: error: the memory limit (ulimit -v) is 400000 KiB; set it to 2097152 or unlimited\n"
    assert (done.returncode, done.stderr) == (2, expected)
    assert list(tmp_path.iterdir()) == []
