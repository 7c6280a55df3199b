"""Watch a run during training for blocks that change."""

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder

POLL_INTERVAL = 2.0
"""Seconds between checks of the run folder."""

FileVersion = tuple[int, int]
"""Modification time of a file in nanoseconds, and its size in bytes."""
FileVersions = Mapping[str, FileVersion]


def file_version(path: Path) -> FileVersion | None:
    """Return the version of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def file_versions(run: RunFolder, city: City) -> FileVersions:
    """Return the version of each block's field, or of its preview during training."""
    versions = {}
    for block in city.blocks:
        version = file_version(run.field(block.name)) or file_version(run.preview(block.name))
        if version is not None:
            versions[block.name] = version
    return versions


class RunWatcher:
    """Polls a run folder in its own thread."""

    def __init__(self, run: RunFolder, city: City, on_change: Callable[[Iterable[str]], None]) -> None:
        """`on_change` is called with the names of new and changed blocks."""
        self._run, self._city, self._on_change = run, city, on_change
        self._done = threading.Event()
        self._last = file_versions(run, city)
        self._thread = threading.Thread(target=self._work, name="run_watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._done.wait(POLL_INTERVAL):
            versions = file_versions(self._run, self._city)
            names = [name for name, version in versions.items() if self._last.get(name) != version]
            self._last = versions
            if names:
                self._on_change(names)
