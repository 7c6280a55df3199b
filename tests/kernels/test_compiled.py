"""Machine code of the Triton kernels, compiled without a GPU: no spills, no fences, no atomics with results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.interpreted import needs_triton


@pytest.fixture(scope="module")
def codes(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The report of `tests.kernels.compiled`, in a separate process, because kernels are interpreted in this one."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", "tests.kernels.compiled"]
    outcome = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=280)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout.splitlines()[-1])


@needs_triton
def test_machine_code_has_no_fences_and_no_returning_atomics(codes: list[dict[str, Any]]) -> None:
    assert {code["capability"] for code in codes} == {80, 89, 90}
    faults = ("fences", "returning_atomics")
    assert [code for code in codes if any(code[fault] for fault in faults)] == []


@needs_triton
def test_kernels_stay_within_their_register_limit(codes: list[dict[str, Any]]) -> None:
    assert [code for code in codes if code["registers"] > code["max_registers"] or code["spilled"]] == []
