"""Failures of the environment, as libraries raise them: each one line with a remedy, and faults of ours none."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.errors import CaptureError
from pipelines.refusals import REMEDIES, refusal_of


def nest(depth: int) -> int:
    return nest(depth + 1)


def raised(action: object) -> BaseException:
    """What a call raises."""
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
def test_memory_that_ran_out_names_options_that_need_less(library: str) -> None:
    told = refusal_of(raised(MEMORY[library]), ["run", "jobs", "downscale"])
    assert told is not None
    assert told.startswith("memory ran out (")
    assert told.endswith("; close other programs or raise its limit, or ask for less by --downscale or --jobs")
    assert "\n" not in told


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
def test_other_ways_of_saying_so_are_known(error: Exception) -> None:
    told = refusal_of(error)
    assert told is not None
    assert told.startswith("memory ran out (")
    assert "\n" not in told


@pytest.mark.parametrize("number", [*REMEDIES, errno.EXDEV])
def test_what_the_system_refuses_names_the_path(number: int) -> None:
    told = refusal_of(OSError(number, os.strerror(number), "some/path"))
    assert told is not None
    assert told.startswith(f"some/path: {os.strerror(number)}; ")


def test_input_nested_too_deeply_is_refused() -> None:
    assert refusal_of(raised(lambda: nest(0))) == (
        "a file of the input nests its content too deeply to be read; simplify it"
    )


def test_a_name_that_cannot_be_written_is_refused() -> None:
    told = refusal_of(raised(lambda: "Straße".encode("ascii")))
    assert told == r"'\xdf' in a name cannot be written as ascii; rename it, or set PYTHONUTF8=1"


def test_our_own_refusals_stay_as_they_are_and_faults_of_ours_are_none() -> None:
    assert refusal_of(CaptureError("a: b; c")) == "a: b; c"
    faults = (ValueError("x"), KeyError("x"), OSError(errno.EBADF, "Bad file descriptor"), FileNotFoundError("x"))
    assert [refusal_of(fault) for fault in faults] == [None] * len(faults)


def test_a_limit_in_which_libraries_abort_is_refused_before_they_load(tmp_path: Path, repository: Path) -> None:
    line = 'ulimit -v 400000 && exec "$0" -m pipelines sample "$1"'
    command = ["sh", "-c", line, sys.executable, str(tmp_path / "town")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    told = "blocknerf: error: the limit for memory (ulimit -v) is 400000 KiB; set it to 2097152 or unlimited\n"
    assert (done.returncode, done.stderr) == (2, told)
    assert list(tmp_path.iterdir()) == []
