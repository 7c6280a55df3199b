"""A film rendered by a process of its own, so that a visitor's page stays free and a crash takes nothing along."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from blocknerf.city.manifest import RunFolder
from blocknerf.errors import RunError
from blocknerf.processes import stop
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import write_trajectory

State = Literal["rendering", "done", "failed", "cancelled"]


class Filming:
    """One film in the making: `blocknerf render` with a trajectory."""

    def __init__(self, run: RunFolder, film: Trajectory, *options: str) -> None:
        """Begin, with these options of the command; the film gets the first free name of web001, web002 and so on."""
        self.run, self.length, self.name = run, len(film), _take_name(run)
        self._folder = tempfile.TemporaryDirectory()
        path, self._errors = (Path(self._folder.name) / name for name in ("trajectory.json", "errors.txt"))
        write_trajectory(film, path)
        command = [sys.executable, "-m", "pipelines", "render", str(run.path), "--name", self.name]
        command += ["--trajectory", str(path), "--beside", str(os.getpid()), *options]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        self._cancelled = False

    @property
    def state(self) -> State:
        """How it stands."""
        code = self._process.poll()
        if code is None:
            return "rendering"
        if code == 0:
            return "done"
        return "cancelled" if self._cancelled else "failed"

    @property
    def share(self) -> float:
        """How much of it is rendered, 0..1."""
        if self.state == "done":
            return 1.0
        try:
            rows = self.run.render_log(self.name).read_text().splitlines()
        except OSError:
            return 0.0
        return sum("frame" in _row(row) for row in rows) / self.length

    @property
    def complaint(self) -> str:
        """The last line that a failed film left behind."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    @property
    def video(self) -> Path:
        return self.run.video(self.name)

    def cancel(self) -> None:
        """Stop it; the pictures that are there stay."""
        if self._process.poll() is None:
            self._cancelled = True
            stop(self._process)

    def close(self) -> None:
        """Stop it, and give its temporary files back, and its name where nothing came of it."""
        self.cancel()
        self._folder.cleanup()
        with suppress(OSError):
            self.run.render_folder(self.name).rmdir()


class Studio:
    """Where all visitors' films are made, one at a time: a film takes the whole machine."""

    def __init__(self, run: RunFolder) -> None:
        self._run, self._lock = run, threading.Lock()
        self._filming: Filming | None = None

    def begin(self, film: Trajectory, *options: str) -> Filming:
        """Begin a film, as `Filming` does.

        Raises:
            RunError: another one is being made.
        """
        with self._lock:
            if self._filming is not None and self._filming.state == "rendering":
                raise RunError("view: another film is being rendered; begin yours when that is done")
            self._filming = Filming(self._run, film, *options)
            return self._filming

    def close(self) -> None:
        """Stop what is being made."""
        with self._lock:
            if self._filming is not None:
                self._filming.close()


def _take_name(run: RunFolder) -> str:
    for number in itertools.count(1):
        name = f"web{number:03d}"
        with suppress(FileExistsError):
            run.render_folder(name).mkdir(parents=True)
            return name
    raise AssertionError("numbers do not end")


def _row(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:  # being written
        return {}
    return found if isinstance(found, dict) else {}
