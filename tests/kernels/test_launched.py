"""Every kernel launch of training and rendering, compiled without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kernels.interpreted import needs_triton

LAUNCHED = {
    *("_make_ray_samples", "_encode_kernel", "_contract", "_weights_forward", "_weights_backward"),
    *("_composite_forward", "_composite_backward", "_sample_pdf", "forward", "color_backward", "grid_backward"),
    *("_table_backward_runs", "_table_backward", "_step", "_distortion", "_interlevel"),
    *("_proposal_kernel", "_render_kernel"),
}


@needs_triton
def test_every_launched_kernel_compiles(repository: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.kernels.launched"]
    outcome = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=280)
    assert outcome.returncode == 0, outcome.stderr
    assert set(outcome.stdout.split()) >= LAUNCHED
