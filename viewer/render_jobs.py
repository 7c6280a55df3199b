"""A film rendered by a process of its own, so that a visitor's page stays free and a crash takes nothing along."""

import itertools
import json
import logging
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.processes import stop
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import write_trajectory

State = Literal["rendering", "done", "failed", "cancelled"]
MOST_VIDEOS, MOST_BYTES = 100, 20 << 30
"""Videos that visitors made of a run, finished or not, and bytes that these take on its disk. None of them is removed
for another: who would make too many is refused."""
REFUSED = 2
"""Exit code of a command that says in one line why it did not do what it was asked for."""
_OURS = re.compile(r"viewer-\d{3,}")


class RenderJob:
    """One film in the making: `blocknerf render` with a trajectory."""

    def __init__(self, run: RunFolder, film: Trajectory, *options: str) -> None:
        """Begin, with these options of the command; the film gets the first free name of viewer-001, viewer-002 and so on."""
        self.run, self.length, self.name = run, len(film), _take_name(run)
        self._folder = tempfile.TemporaryDirectory()
        path, self._errors = (Path(self._folder.name) / name for name in ("trajectory.json", "errors.txt"))
        write_trajectory(film, path)
        command = [sys.executable, "-m", "pipelines", "render", str(run.path), "--name", self.name]
        command += ["--trajectory", str(path), "--parent-pid", str(os.getpid()), *options]
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
    def fraction(self) -> float:
        """How much of it is rendered, 0..1."""
        if self.state == "done":
            return 1.0
        try:
            rows = self.run.render_log(self.name).read_text().splitlines()
        except OSError:
            return 0.0
        return sum("frame" in _row(row) for row in rows) / self.length

    @property
    def error(self) -> str:
        """Why a film failed: what the command refused; the words of any other end go to the server's terminal."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        if self._process.poll() == REFUSED and lines:
            return lines[-1]
        logging.getLogger(__name__).error("%s ended with %s: %s", self.name, self._process.poll(), "\n".join(lines))
        return "see the server's terminal"

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


class RenderQueue:
    """Where all visitors' films are made, one at a time: a film takes the whole machine."""

    def __init__(self, run: RunFolder, *options: str) -> None:
        """`options` of `blocknerf render` hold for all videos."""
        self._run, self._options = run, options
        self._lock, self._closed = threading.Lock(), False
        self._jobs: RenderJob | None = None

    def submit(self, film: Trajectory, *options: str) -> RenderJob:
        """Begin a film, as `RenderJob` does.

        Raises:
            RunError: another one is being made, visitors have made too many, or the viewer is being stopped.
        """
        with self._lock:
            if self._closed:
                raise RunError("view: the viewer is being stopped; render your video when it runs again")
            if self._jobs is not None and self._jobs.state == "rendering":
                raise RunError("view: another film is being rendered; begin yours when that is done")
            _check_room(self._run, film)
            self._jobs = RenderJob(self._run, film, *self._options, *options)
            return self._jobs

    def close(self) -> None:
        """Stop what is being made, and begin nothing more."""
        with self._lock:
            self._closed = True
            if self._jobs is not None:
                self._jobs.close()


def _check_room(run: RunFolder, film: Trajectory) -> None:
    """Refuse a film for which visitors' videos leave no room, by what its frames take at most."""
    made = [folder for folder in run.renders.glob("viewer-*") if _OURS.fullmatch(folder.name)]
    remedy = f"have some of {run.renders.name}/viewer-* removed"
    if len(made) >= MOST_VIDEOS:
        raise RunError(f"view: visitors have made {len(made)} videos of this run, the most that are kept; {remedy}")
    needed = 3 * len(film) * film.width * film.height
    left = MOST_BYTES - sum(_size(path) for folder in made for path in folder.rglob("*"))
    if needed > left:
        sizes = f"may take {needed / 2**30:.1f} GiB, and {max(0.0, left / 2**30):.1f} GiB are left for visitors"
        raise RunError(f"view: this video {sizes}; make it shorter or smaller, or {remedy}")


def _size(path: Path) -> int:
    try:
        facts = path.lstat()
    except OSError:  # it was a part of a file, and is whole by now
        return 0
    return facts.st_size if stat.S_ISREG(facts.st_mode) else 0


def _take_name(run: RunFolder) -> str:
    for number in itertools.count(1):
        name = f"viewer-{number:03d}"
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
