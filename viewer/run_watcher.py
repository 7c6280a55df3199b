"""A run in training: which blocks have changed since they were last looked at."""

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder

SECONDS = 2.0
"""How often the run folder is looked at."""

FileVersion = tuple[int, int]
"""When a file was written, in nanoseconds, and its size."""
FileVersions = Mapping[str, FileVersion]


def file_version(path: Path) -> FileVersion | None:
    """The state of a file; None where there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size


def file_versions(run: RunFolder, city: City) -> FileVersions:
    """What tells the state of each block that can be shown: time and size of its file."""
    found = {}
    for block in city.blocks:
        newest = file_version(run.field(block.name)) or file_version(run.preview(block.name))
        if newest is not None:
            found[block.name] = newest
    return found


class RunWatcher:
    """Looks at a run folder now and then, in a thread of its own."""

    def __init__(self, run: RunFolder, city: City, changed: Callable[[Iterable[str]], None]) -> None:
        """`changed` is told the names of the blocks that are new or other than before."""
        self._run, self._city, self._changed = run, city, changed
        self._done = threading.Event()
        self._last = file_versions(run, city)
        self._thread = threading.Thread(target=self._work, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._done.wait(SECONDS):
            now = file_versions(self._run, self._city)
            names = [name for name, state in now.items() if self._last.get(name) != state]
            self._last = now
            if names:
                self._changed(names)
