"""The main job on a stretch of the sample town, for real: killed, finished by the same command, then left alone.

In processes of its own, as users start it; so without the shape checks, which would make it slow.
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

STOPS, STEPS = 14, 12
PRODUCT = sys.executable, "-m", "pipelines"

LISTEN = """
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
functions = {each.data["dispatcher"].py_func.__qualname__ for _, each in recorder.buffer}
Path(sys.argv[1]).write_text(" ".join(sorted(functions)))
sys.exit(code)
"""
"""Runs a command, and notes what functions were compiled in its own process: `probe`, or it did not listen."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """One camera on the first metres of one drive."""
    folder = tmp_path_factory.mktemp("place") / "town"
    shutil.copytree(repository / "data_samples" / "mini_city", folder)
    document = json.loads((folder / "transforms.json").read_text())
    first = document["frames"][0]["sequence_id"], "forward"
    frames = document["frames"]
    document["frames"] = [frame for frame in frames if (frame["sequence_id"], frame["camera_id"]) == first][:STOPS]
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def command(town: Path) -> list[str]:
    options = ["--steps", str(STEPS), "--downscale", "6", "--radius", "9"]
    return ["run", str(town), "--out", str(town.parent / "run"), *options]


@pytest.fixture(scope="module")
def finished(town: Path, repository: Path) -> RunFolder:
    """A run that was killed when its training began, and then finished."""
    folder = RunFolder(town.parent / "run")
    process = subprocess.Popen([*PRODUCT, *command(town)], cwd=repository, stdout=subprocess.DEVNULL)
    while process.poll() is None and not folder.run_settings.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert not folder.report.exists()
    # One block after the other, in the process that listens.
    listening = [sys.executable, "-c", LISTEN, str(town.parent / "compiled"), *command(town), "--jobs", "1"]
    subprocess.run(listening, cwd=repository, stdout=subprocess.DEVNULL, check=True)
    return folder


def test_every_product_is_there(finished: RunFolder) -> None:
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


def test_all_was_compiled_ahead(finished: RunFolder, town: Path) -> None:
    assert (town.parent / "compiled").read_text() == "probe"


def test_nothing_half_written_remains(finished: RunFolder) -> None:
    assert [path for path in finished.path.rglob("*") if ".part" in path.name] == []


def test_a_finished_run_is_left_alone(finished: RunFolder, town: Path, repository: Path) -> None:
    kept = [finished.capture, finished.city, finished.evaluation, finished.video("flythrough")]
    kept += [finished.field(name) for name in finished.trained_blocks()]
    before = {path: path.stat().st_mtime_ns for path in kept}
    subprocess.run([*PRODUCT, *command(town)], cwd=repository, stdout=subprocess.DEVNULL, check=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
