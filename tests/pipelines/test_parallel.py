"""Blocks that train at the same time, in processes of their own, as users start them: with the preset as it is."""

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


@pytest.fixture
def run(tmp_path: Path, balls_capture: Capture) -> RunFolder:
    return make_run(tmp_path / "run", balls_capture)


def test_as_many_as_threads_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_usable_memory", lambda: 13 * GIB)
    found = [max_parallel_blocks(*facts) for facts in ((8, 4.0), (8, 1.5), (5, 1.5), (8, 40.0))]
    assert found == [3, 8, 5, 1]


def test_a_container_may_have_less_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel, "LIMIT", tmp_path / "memory.max")
    whole = parallel._usable_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert parallel._usable_memory() == whole
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    assert parallel._usable_memory() == GIB


def test_blocks_are_as_if_trained_one_after_the_other(
    run: RunFolder, tmp_path: Path, balls_capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", balls_capture)
    assert train(run.path, steps=3, seed=4, jobs=2) == ["b000", "b001"]
    told = capfd.readouterr().out
    assert "training 2 blocks, 2 at once" in told
    assert "b001: 7 frames, 3 steps" in told
    assert "1 of 2 blocks trained, about " in told
    train(other.path, steps=3, seed=4, jobs=1)
    assert all(same_weights(run.field(name), other.field(name)) for name in ("b000", "b001"))


def test_what_one_refuses_ends_all(run: RunFolder) -> None:
    run.checkpoint("b001").mkdir(parents=True)
    (run.checkpoint("b001") / "state.safetensors").write_text("broken")
    with pytest.raises(TrainingError, match=r"state\.safetensors: "):
        train(run.path, steps=100_000, jobs=2)
    assert run.trained_blocks() == ()


def test_one_page_does_not_show_several(run: RunFolder) -> None:
    with pytest.raises(TrainingError, match="--jobs 2 does not go with --view, which shows one block"):
        train(run.path, jobs=2, view=True)


def children_of(process: int) -> list[Path]:
    """Where Linux tells of the processes that a process has started."""
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


def are_gone(processes: list[Path]) -> bool:
    """Whether all are; a zombie is one that nobody has asked for."""
    return all(not each.exists() or "State:\tZ" in (each / "status").read_text() for each in processes)


def start_training(run: RunFolder, repository: Path, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines", "train", str(run.path), "--steps", "100000", "--jobs", "2"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=repository, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_job_that_ends_leaves_none_behind(run: RunFolder, repository: Path, number: signal.Signals) -> None:
    with start_training(run, repository) as job:
        logs = [run.log(name) for name in ("b000", "b001")]
        wait_until(lambda: all(log.exists() and log.read_text() for log in logs), job)
        children = children_of(job.pid)
        assert len(children) == 2
        job.send_signal(number)
        _, told = job.communicate(timeout=60)
    wait_until(lambda: are_gone(children))
    expected = (-number, "") if number is signal.SIGKILL else (INTERRUPTED, f"blocknerf: error: {STOPPED}\n")
    assert (job.returncode, told) == expected
    assert not list(run.path.rglob("*.part*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_compile_end_with_the_job(
    run: RunFolder, tmp_path: Path, repository: Path, number: signal.Signals
) -> None:
    with start_training(run, repository, NUMBA_CACHE_DIR=str(tmp_path / "kernels")) as job:
        wait_until(lambda: bool(children_of(job.pid)), job)
        children = children_of(job.pid)
        assert b"blocknerf.kernels.precompile" in (children[0] / "cmdline").read_bytes()
        job.send_signal(number)
        job.communicate(timeout=60)
    wait_until(lambda: are_gone(children))
    assert job.returncode == (INTERRUPTED if number is signal.SIGTERM else -number)


def test_two_trainings_of_one_run_share_its_blocks(run: RunFolder) -> None:
    """Each block is trained once, in whichever process, and its log has each line once."""
    command = [sys.executable, "-m", "pipelines", "train", str(run.path), "--steps", "60", "--jobs", "1"]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    told = [job.communicate(timeout=240)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], told
    assert run.trained_blocks() == ("b000", "b001")
    for name in run.trained_blocks():
        assert sum(f"{name}: 7 frames, 60 steps" in each for each in told) == 1, told
        assert [row["step"] for row in read_lines(run.log(name))] == [20, 40, 60]
    assert not list(run.path.rglob("*.lock"))


def test_a_block_in_training_is_left_alone_or_refused(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    with exclusive(run.training_lock("b000"), "block b000: training"):
        assert train(run.path, steps=3, jobs=1) == ["b001"]
        assert f"skipping block b000: training is under way already, by process {os.getpid()}" in capfd.readouterr().out
        with pytest.raises(
            LockedError, match=f"block b000: training is under way already, by process {os.getpid()} on"
        ):
            train(run.path, steps=3, block="b000")
    assert train(run.path, steps=3, jobs=1) == ["b000"]


def test_a_lock_of_a_killed_training_is_taken_over(run: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    facts = {"host": "another", "pid": 12345, "since": 1.7e9}
    run.training_lock("b000").write_text(json.dumps(facts))
    train(run.path, steps=3, block="b000")
    assert "b000: takes over from process 12345 on another since 2023" in capfd.readouterr().out
    assert not run.training_lock("b000").exists()
