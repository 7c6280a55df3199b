"""Every launch of a training step and of pictures, compiled without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kernels.interpreted import needs_triton

LAUNCHED = {
    *("_place", "_fill", "_contract", "_weigh", "_weigh_back", "_composite", "_composite_back", "_resample"),
    *("forward", "color_backward", "grid_backward", "_runs_to_table", "_to_table", "_step", "_distortion"),
    *("_interlevel", "_propose", "_see"),
}


@needs_triton
def test_all_that_is_launched_compiles(repository: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.kernels.launched"]
    outcome = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=280)
    assert outcome.returncode == 0, outcome.stderr
    assert set(outcome.stdout.split()) >= LAUNCHED
