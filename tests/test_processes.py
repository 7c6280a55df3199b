"""Processes that are told to end, that do not listen, and whose parents are gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blocknerf import processes
from blocknerf.processes import Crew, end_with, ended_by_signals, stop

WAITS = "import time; print('ready', flush=True); time.sleep(60)"
CHILD = "import sys, time; from blocknerf.processes import end_with; end_with(int(sys.argv[1])); time.sleep(60)"
PARENT = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n"
)
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


def started(program: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
    return process


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(process: int) -> bool:
    """Whether it is no more, or a zombie that its new parent has not asked for."""
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" in status.read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_work_as_ctrl_c_does_and_is_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ended_by_signals():  # noqa: PT012
        os.kill(os.getpid(), number)
        time.sleep(5.0)
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    polite, deaf = started(WAITS), started(DEAF)
    stop(polite, deaf)
    assert (polite.returncode, deaf.returncode) == (-signal.SIGTERM, -signal.SIGKILL)
    stop(polite)  # without effect


def test_a_crew_that_was_stopped_starts_nobody() -> None:
    crew = Crew()
    first = crew.start([sys.executable, "-c", WAITS], stdout=subprocess.DEVNULL)
    crew.stop()
    late = crew.start([sys.executable, "-c", WAITS], stdout=subprocess.DEVNULL)
    assert (first.returncode, late.wait(30)) == (-signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_none_outlives_the_process_that_started_it(number: signal.Signals) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("needs Linux's /proc to find a process that is not its own child")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        number_of_child = int(parent.stdout.readline())
    assert not is_gone(number_of_child)
    parent.send_signal(number)
    parent.wait()
    wait_until(lambda: is_gone(number_of_child))


def test_a_process_without_a_parent_to_follow_goes_on() -> None:
    end_with(None)
