"""Training of blocks in parallel processes, as users start them, with small fields."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import TrainingError
from blocknerf.locks import LockedError, exclusive
from blocknerf.processes import INTERRUPTED
from pipelines import parallel
from pipelines.cli import STOPPED
from pipelines.parallel import GIB, max_parallel_blocks
from pipelines.train import train
from pipelines.training_log import read_lines
from tests.pipelines.test_train import make_run, same_weights

SMALL = "field.num_levels=2", "field.log2_hashmap_size=10", "field.hidden_dim=16", "training.rays_per_step=64"
FLAGS = [word for override in SMALL for word in ("--set", override)]


@pytest.fixture
def run(tmp_path: Path, balls_capture: Capture) -> RunFolder:
    return make_run(tmp_path / "run", balls_capture)


def test_threads_and_memory_limit_the_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_usable_memory", lambda: 13 * GIB)
    counts = [max_parallel_blocks(*limits) for limits in ((8, 4.0), (8, 1.5), (5, 1.5), (8, 40.0))]
    assert counts == [3, 8, 5, 1]


def test_the_memory_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel, "LIMIT", tmp_path / "memory.max")
    total = parallel._usable_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert parallel._usable_memory() == total
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    assert parallel._usable_memory() == GIB


def test_parallel_training_equals_serial_training(
    run: RunFolder, tmp_path: Path, balls_capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", balls_capture)
    assert train(run.path, steps=3, seed=4, jobs=2, overrides=SMALL) == ["b000", "b001"]
    output = capfd.readouterr().out
    assert "training 2 blocks, 2 in parallel" in output
    assert "b001: 7 images, 3 steps" in output
    assert "1 of 2 blocks trained, about " in output
    train(other.path, steps=3, seed=4, jobs=1, overrides=SMALL)
    assert all(same_weights(run.field(name), other.field(name)) for name in ("b000", "b001"))


def test_an_error_of_one_block_stops_all(run: RunFolder) -> None:
    run.checkpoint("b001").mkdir(parents=True)
    (run.checkpoint("b001") / "state.safetensors").write_text("broken")
    with pytest.raises(TrainingError, match=r"state\.safetensors: "):
        train(run.path, steps=100_000, jobs=2, overrides=SMALL)
    assert run.trained_blocks() == ()


def test_jobs_and_view_cannot_be_combined(run: RunFolder) -> None:
    with pytest.raises(TrainingError, match="--jobs 2 cannot be combined with --view, which shows one block"):
        train(run.path, jobs=2, view=True)


def children_of(process: int) -> list[Path]:
    """Return the /proc folders of the children of a process."""
    tasks = Path(f"/proc/{process}/task")
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs Linux's /proc to find a process's children")
    return [Path("/proc") / child for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def wait_until(condition: Callable[[], bool], job: "subprocess.Popen[str] | None" = None) -> None:
    deadline = time.monotonic() + 120.0
    while not condition():
        assert job is None or job.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def have_ended(processes: list[Path]) -> bool:
    """Return whether all processes have ended. A zombie has ended, too."""
    return all(not path.exists() or "State:\tZ" in (path / "status").read_text() for path in processes)


def start_training(run: RunFolder, repository: Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines", "train", str(run.path), "--steps", "100000", "--jobs", "2", *FLAGS]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=repository, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_job(run: RunFolder, repository: Path, number: signal.Signals) -> None:
    with start_training(run, repository) as job:
        logs = [run.log(name) for name in ("b000", "b001")]
        wait_until(lambda: all(log.exists() and log.read_text() for log in logs), job)
        children = children_of(job.pid)
        assert len(children) == 2
        job.send_signal(number)
        _, error = job.communicate(timeout=60)
    wait_until(lambda: have_ended(children))
    expected = (-number, "") if number is signal.SIGKILL else (INTERRUPTED, f"blocknerf: error: {STOPPED}\n")
    assert (job.returncode, error) == expected
    assert not list(run.path.rglob("*.part*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_compiling_processes_end_with_the_job(
    run: RunFolder, tmp_path: Path, repository: Path, number: signal.Signals
) -> None:
    with start_training(run, repository, NUMBA_CACHE_DIR=str(tmp_path / "kernels")) as job:
        wait_until(lambda: bool(children_of(job.pid)), job)
        children = children_of(job.pid)
        assert b"blocknerf.kernels.precompile" in (children[0] / "cmdline").read_bytes()
        job.send_signal(number)
        job.communicate(timeout=60)
    wait_until(lambda: have_ended(children))
    assert job.returncode == (INTERRUPTED if number is signal.SIGTERM else -number)


def test_two_trainings_of_one_run_share_its_blocks(run: RunFolder) -> None:
    """Each block is trained once, by either process, and its log has each line once."""
    command = [sys.executable, "-m", "pipelines", "train", str(run.path), "--steps", "60", "--jobs", "1", *FLAGS]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    outputs = [job.communicate(timeout=240)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert run.trained_blocks() == ("b000", "b001")
    for name in run.trained_blocks():
        assert sum(f"{name}: 7 images, 60 steps" in output for output in outputs) == 1, outputs
        assert [json.loads(line)["step"] for line in read_lines(run.log(name))] == [20, 40, 60]
    assert not list(run.path.rglob("*.lock"))


def test_a_block_in_training_is_skipped_or_refused(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    with exclusive(run.training_lock("b000"), "block b000: training"):
        assert train(run.path, steps=3, jobs=1, overrides=SMALL) == ["b001"]
        assert f"skipping block b000: training is already running in process {os.getpid()}" in capfd.readouterr().out
        with pytest.raises(LockedError, match=f"block b000: training is already running in process {os.getpid()} on"):
            train(run.path, steps=3, block="b000", overrides=SMALL)
    assert train(run.path, steps=3, jobs=1, overrides=SMALL) == ["b000"]


def test_a_lock_of_a_killed_training_is_taken_over(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    holder = {"host": "another", "pid": 12345, "since": 1.7e9}
    run.training_lock("b000").write_text(json.dumps(holder))
    train(run.path, steps=3, block="b000", overrides=SMALL)
    assert "b000: taking over from process 12345 on another since 2023" in capfd.readouterr().out
    assert not run.training_lock("b000").exists()
