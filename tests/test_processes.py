"""Stopping of child processes, also if they ignore signals or their parent is gone."""

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
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS


def start(program: str) -> "subprocess.Popen[str]":
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
    """Return whether a process has ended, or is a zombie that its new parent has not reaped."""
    status = Path(f"/proc/{process}/status")
    try:
        return "State:\tZ" in status.read_text()
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_keyboard_interrupt_and_its_handler_is_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ended_by_signals():  # noqa: PT012
        os.kill(os.getpid(), number)
        time.sleep(5.0)
    assert signal.getsignal(number) is before


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    normal, ignoring = start(WAITS), start(IGNORES_SIGTERM)
    stop(normal, ignoring)
    assert (normal.returncode, ignoring.returncode) == (-signal.SIGTERM, -signal.SIGKILL)
    stop(normal)  # no effect


def test_a_stopped_crew_terminates_new_processes() -> None:
    crew = Crew()
    first = crew.start([sys.executable, "-c", WAITS], stdout=subprocess.DEVNULL)
    crew.stop()
    late = crew.start([sys.executable, "-c", WAITS], stdout=subprocess.DEVNULL)
    assert (first.returncode, late.wait(30)) == (-signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent(number: signal.Signals) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("needs Linux's /proc to find a process that is not its own child")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    assert not is_gone(child)
    parent.send_signal(number)
    parent.wait()
    wait_until(lambda: is_gone(child))


def test_end_with_none_does_nothing() -> None:
    end_with(None)
