"""The run command on a part of the sample town: killed, finished by the same command, then run again.

It runs in separate processes, as users start it, and so without shape checks, which would be slow.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocknerf.city.run_folder import RunFolder

pytestmark = pytest.mark.timeout(900)

NUM_FRAMES, STEPS = 14, 12
COMMAND = sys.executable, "-m", "pipelines"

RECORD_COMPILED = """
import sys
from pathlib import Path
from pipelines.cli import main
from numba import njit
from numba.core import event

def probe():
    return 0

with event.install_recorder("numba:compile") as recorder:
    code = main(sys.argv[2:])
    njit(probe)()
functions = {record.data["dispatcher"].py_func.__qualname__ for _, record in recorder.buffer}
Path(sys.argv[1]).write_text(" ".join(sorted(functions)))
sys.exit(code)
"""
"""Runs a command, and writes the functions compiled in its own process. `probe` shows that the recorder works."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """One camera of the first meters of one drive."""
    folder = tmp_path_factory.mktemp("sample") / "town"
    shutil.copytree(repository / "data_samples" / "mini_city", folder)
    document = json.loads((folder / "transforms.json").read_text())
    first = document["frames"][0]["sequence_id"], "forward"
    frames = document["frames"]
    document["frames"] = [frame for frame in frames if (frame["sequence_id"], frame["camera_id"]) == first][:NUM_FRAMES]
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def arguments(town: Path) -> list[str]:
    options = ["--steps", str(STEPS), "--downscale", "6", "--radius", "14"]
    small = ["--set", "field.num_levels=4", "--set", "field.log2_hashmap_size=12"]
    return ["run", str(town), "--out", str(town.parent / "run"), *options, *small]


@pytest.fixture(scope="module")
def finished(town: Path, repository: Path) -> RunFolder:
    """A run that was killed when its training started, and then finished."""
    folder = RunFolder(town.parent / "run")
    process = subprocess.Popen([*COMMAND, *arguments(town)], cwd=repository, stdout=subprocess.DEVNULL)
    while process.poll() is None and not folder.run_settings.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not folder.report.exists()
    # One block after the other, in the recording process.
    recording = [sys.executable, "-c", RECORD_COMPILED, str(town.parent / "compiled"), *arguments(town), "--jobs", "1"]
    subprocess.run(recording, cwd=repository, stdout=subprocess.DEVNULL, check=True)
    return folder


def test_all_output_exists(finished: RunFolder) -> None:
    names = sorted(path.name for path in finished.blocks.iterdir())
    assert len(names) > 1
    assert finished.trained_blocks() == tuple(names)
    for name in names:
        assert json.loads(finished.train_summary(name).read_text())["config"]["steps"] == STEPS
        assert not finished.checkpoint(name).exists()
    assert finished.video("flythrough").stat().st_size > 1000
    scores = json.loads(finished.evaluation.read_text())
    assert {"psnr", "ssim", "psnr_masked"} <= scores["mean"].keys()
    assert {"protocol", "blocks", "frames"} <= scores.keys()
    assert "<video" in finished.report.read_text()


def test_all_kernels_were_compiled_ahead(finished: RunFolder, town: Path) -> None:
    assert (town.parent / "compiled").read_text() == "probe"


def test_no_partial_file_remains(finished: RunFolder) -> None:
    assert [path for path in finished.path.rglob("*") if ".part" in path.name] == []


def test_a_finished_run_is_not_changed(finished: RunFolder, town: Path, repository: Path) -> None:
    kept = [finished.capture, finished.city, finished.evaluation, finished.video("flythrough")]
    kept += [finished.field(name) for name in finished.trained_blocks()]
    before = {path: path.stat().st_mtime_ns for path in kept}
    subprocess.run([*COMMAND, *arguments(town)], cwd=repository, stdout=subprocess.DEVNULL, check=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
