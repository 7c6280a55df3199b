"""Fault injection: a few kills, a full disk and damaged files; `python -m tests.benchmarks.faults` tries many more.

It runs in a process of its own, which forks and keeps kernels in memory.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the processes of a command")
def test_kills_full_disks_and_damaged_files_lose_no_data(repository: Path) -> None:
    counts = ["--kills", "2", "--disks", "1", "--damages", "6"]
    command = [sys.executable, "-m", "tests.benchmarks.faults", *counts]
    outcome = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    result = json.loads(outcome.stdout.splitlines()[-1])
    assert (result["tried"], result["failed"]) == (9, 0)
