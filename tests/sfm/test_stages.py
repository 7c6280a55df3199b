"""COLMAP's process: its output, its failures and its end."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocknerf.errors import CaptureError
from blocknerf.sfm.stages import ProgressMeter, check_installed, run_stage
from blocknerf.sfm.work_folder import WorkFolder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkFolder:
    monkeypatch.setattr("blocknerf.sfm.stages.WORKER", "tests.sfm.stub_worker")
    return WorkFolder(tmp_path)


def test_progress_is_logged_and_other_lines_returned(work: WorkFolder, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "blocknerf.sfm"):
        lines = run_stage("features", "finding features", work, 3)
    assert lines == ["unreadable 000001.jpg", "threads 3 True 3"]
    assert caplog.messages == ["finding features: 0 of 4"]


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("abort", "was killed by signal 6"),
        ("fail", "failed with code 1"),
        ("spin", "took more than 1 CPU seconds"),
    ],
)
def test_a_process_that_fails_is_one_line(stage: str, reason: str, work: WorkFolder) -> None:
    with pytest.raises(CaptureError, match=rf"^poses: mapping: its process .*{reason}; see .*colmap\.log$"):
        run_stage(stage, "mapping", work, 1, limit=1.0 if stage == "spin" else None)
    assert ("no room" in work.log.read_text()) == (stage == "fail")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_an_interrupted_job(number: signal.Signals, work: WorkFolder, repository: Path) -> None:
    program = (
        "from pathlib import Path; import blocknerf.sfm.stages as s; from blocknerf.sfm.work_folder import WorkFolder\n"
        "from blocknerf.processes import ended_by_signals\n"
        "s.WORKER = 'tests.sfm.stub_worker'\n"
        f"with ended_by_signals(): s.run_stage('sleep', 'mapping', WorkFolder(Path({str(work.path)!r})), 1)"
    )
    job = subprocess.Popen([sys.executable, "-c", program], cwd=repository, stderr=subprocess.DEVNULL)
    pid = work.path / "pid"
    deadline = time.monotonic() + 60.0
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(number)
    assert job.wait(30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_an_estimate_counts_only_what_this_process_did() -> None:
    """A stage that resumes at 90 of 100 has done nothing yet."""
    meter = ProgressMeter("matching")
    assert meter.message(90, 100, now=0.0) == "matching: 90 of 100"
    assert meter.message(95, 100, now=20.0) == "matching: 95 of 100, about 20 s left"


@pytest.mark.parametrize("found", [None, "3.12.0"])
def test_a_missing_or_old_pycolmap_is_one_line(found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr("blocknerf.sfm.stages.version", version)
    with pytest.raises(CaptureError, match=r"pip install 'pycolmap>=4\.2,<5'$"):
        check_installed()
