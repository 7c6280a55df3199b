"""The files of a run's blocks: what they say about each block, and which of them change during training."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from blocknerf.city.extras import TrainingRecord, read_training_record
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from viewer.markup import table

UNKNOWN = "-"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """Facts about one block. A field is None if the block's files do not contain it."""

    frames: int | None
    """Number of training images."""
    psnr: float | None
    """Training PSNR over the last tenth of the steps, in decibels."""
    trained: datetime | None
    """When the field was written, in local time."""
    size: int | None
    """Size of the field file, in bytes."""
    fault: str | None
    """What is wrong with the training record."""

    @classmethod
    def of(cls, run: RunFolder, name: str) -> "BlockInfo":
        """Read the facts about a block; cached while its files do not change."""
        return _read(run, name, file_version(run.train_summary(name)), file_version(run.field(name)))


def block_info_table(run: RunFolder, names: Iterable[str]) -> str:
    """Return an HTML table of the facts about these blocks."""
    rows = []
    for name in names:
        info = BlockInfo.of(run, name)
        cells = (
            name,
            UNKNOWN if info.frames is None else f"{info.frames}",
            UNKNOWN if info.psnr is None else f"{info.psnr:.1f}",
            UNKNOWN if info.trained is None else f"{info.trained:%Y-%m-%d}",
            UNKNOWN if info.size is None else f"{info.size / 2**20:.1f}",
        )
        rows.append(cells)
    return table(("block", "images", "PSNR", "trained", "MiB"), rows)


@lru_cache(maxsize=4096)
def _read(run: RunFolder, name: str, record_version: FileVersion | None, field: FileVersion | None) -> BlockInfo:
    record, fault = TrainingRecord(), None
    if field is not None:
        try:
            record = read_training_record(run.train_summary(name))
        except RunError as error:
            fault = str(error)
    return BlockInfo(
        frames=record.frames,
        psnr=record.psnr,
        trained=None if field is None else datetime.fromtimestamp(field[0] / 1e9),
        size=None if field is None else field[1],
        fault=fault,
    )
