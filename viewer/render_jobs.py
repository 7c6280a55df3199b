"""Videos rendered in a separate process, so that pages stay responsive and a crash does not end the viewer."""

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
MAX_STORED_VIDEOS, MAX_STORED_BYTES = 100, 20 << 30
"""Videos that clients may store in a run, finished or not, and the disk space for them in bytes. Beyond that new videos
are refused; none is deleted to make space."""
EXIT_REFUSED = 2
"""Exit code of a command that reports a one-line error."""
_CLIENT_VIDEO_NAME = re.compile(r"viewer-\d{3,}")


class RenderJob:
    """One running `blocknerf render` with a trajectory."""

    def __init__(self, run: RunFolder, trajectory: Trajectory, *options: str) -> None:
        """Start the command with these options; the video gets the first free name of viewer-001, viewer-002, ..."""
        self.run, self.length, self.name = run, len(trajectory), _take_name(run)
        self._folder = tempfile.TemporaryDirectory()
        path, self._errors = (Path(self._folder.name) / name for name in ("trajectory.json", "errors.txt"))
        write_trajectory(trajectory, path)
        command = [sys.executable, "-m", "pipelines", "render", str(run.path), "--name", self.name]
        command += ["--trajectory", str(path), "--parent-pid", str(os.getpid()), *options]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        self._cancelled = False

    @property
    def state(self) -> State:
        """State of the job."""
        code = self._process.poll()
        if code is None:
            return "rendering"
        if code == 0:
            return "done"
        return "cancelled" if self._cancelled else "failed"

    @property
    def fraction(self) -> float:
        """Rendered fraction of the frames, 0..1."""
        if self.state == "done":
            return 1.0
        try:
            lines = self.run.render_log(self.name).read_text().splitlines()
        except OSError:
            return 0.0
        return sum("frame" in _parse_line(line) for line in lines) / self.length

    @property
    def error(self) -> str:
        """Why the job failed: the command's one-line error. Output of a crash goes to the server's terminal only."""
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        if self._process.poll() == EXIT_REFUSED and lines:
            return lines[-1]
        logging.getLogger(__name__).error("%s exited with %s: %s", self.name, self._process.poll(), "\n".join(lines))
        return "see the server's terminal"

    @property
    def video(self) -> Path:
        return self.run.video(self.name)

    def cancel(self) -> None:
        """Stop the command. Rendered frames stay on disk."""
        if self._process.poll() is None:
            self._cancelled = True
            stop(self._process)

    def close(self) -> None:
        """Stop the command, delete its temporary files, and free its name if nothing was rendered."""
        self.cancel()
        self._folder.cleanup()
        with suppress(OSError):
            self.run.render_folder(self.name).rmdir()


class RenderQueue:
    """Runs the render jobs of all clients, one at a time: a job uses the whole machine."""

    def __init__(self, run: RunFolder, *options: str) -> None:
        """`options` of `blocknerf render` apply to all jobs."""
        self._run, self._options = run, options
        self._lock, self._closed = threading.Lock(), False
        self._job: RenderJob | None = None

    def submit(self, trajectory: Trajectory, *options: str) -> RenderJob:
        """Start a job, as `RenderJob` does.

        Raises:
            RunError: Another job is running, clients have stored too many videos, or the viewer is stopping.
        """
        with self._lock:
            if self._closed:
                raise RunError("view: the viewer is stopping; render your video when it runs again")
            if self._job is not None and self._job.state == "rendering":
                raise RunError("view: another video is being rendered; start yours when it is done")
            _check_space(self._run, trajectory)
            self._job = RenderJob(self._run, trajectory, *self._options, *options)
            return self._job

    def close(self) -> None:
        """Stop the running job, and accept no more."""
        with self._lock:
            self._closed = True
            if self._job is not None:
                self._job.close()


def _check_space(run: RunFolder, trajectory: Trajectory) -> None:
    """Raise if stored videos leave no space for this one, from an upper bound of its frames' size."""
    folders = [folder for folder in run.renders.glob("viewer-*") if _CLIENT_VIDEO_NAME.fullmatch(folder.name)]
    hint = f"have some of {run.renders.name}/viewer-* removed"
    if len(folders) >= MAX_STORED_VIDEOS:
        raise RunError(f"view: visitors have stored {len(folders)} videos in this run, the maximum; {hint}")
    needed = 3 * len(trajectory) * trajectory.width * trajectory.height
    left = MAX_STORED_BYTES - sum(_size(path) for folder in folders for path in folder.rglob("*"))
    if needed > left:
        sizes = f"may take {needed / 2**30:.1f} GiB, but {max(0.0, left / 2**30):.1f} GiB are left for visitors"
        raise RunError(f"view: this video {sizes}; make it shorter or smaller, or {hint}")


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:  # a partial file that was just completed and renamed
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _take_name(run: RunFolder) -> str:
    for number in itertools.count(1):
        name = f"viewer-{number:03d}"
        with suppress(FileExistsError):
            run.render_folder(name).mkdir(parents=True)
            return name
    raise AssertionError("numbers do not end")


def _parse_line(line: str) -> dict[str, object]:
    try:
        entry = json.loads(line)
    except ValueError:  # the line is still being written
        return {}
    return entry if isinstance(entry, dict) else {}
