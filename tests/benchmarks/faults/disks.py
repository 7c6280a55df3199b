"""Fill the disk while a command runs: it must fail in one line, lose nothing, and resume with free space."""

import errno
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.faults import commands
from tests.benchmarks.faults.town import VOLATILE, SmallTown, files
from tests.benchmarks.faults.verdicts import Result

STAGES = ("train", "render", "run", "match", "evaluate", "partition", "ingest", "report")
DISK_SIZE = 64 << 20
"""Bytes of the small file system."""
PAGE = 4096


def full_disks(town: SmallTown, count: int, rng: random.Random) -> Iterator[Result]:
    """Run `count` commands on full disks with space for a random fraction of their output."""
    with small_disk(town.folder / "disk") as mounted:
        for number in range(count):
            stage = STAGES[number % len(STAGES)]
            yield _run_on_full_disk(town, stage, rng.uniform(0.0, 0.9), mounted)


def _run_on_full_disk(town: SmallTown, stage: str, fraction: float, mounted: bool) -> Result:
    folder = town.folder / "disk" / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(town.before(stage), folder)
    before = {path: (folder / path).read_bytes() for path in files(folder)}
    largest = max((town.after(stage) / path).stat().st_size for path in files(town.after(stage)) - before.keys())
    needed = sum((town.after(stage) / path).stat().st_size for path in files(town.after(stage)) - before.keys())
    kind, command = f"full disk, {stage}", town.command(stage, folder)
    filler = folder.parent / "filler"
    if mounted:
        _fill(filler, int(fraction * needed))
        first = commands.run(command, town.folder)
    else:
        first = commands.run(command, town.folder, _limited(int(fraction * largest)))
    filler.unlink(missing_ok=True)
    if first.code != 0 and first.error_line is None:
        return Result(kind=kind, fault=f"no one-line error but exit code {first.code}: {first.errors[-300:]}")
    lost = [path for path, content in before.items() if not _is_kept(folder / path, content)]
    if lost:
        return Result(kind=kind, fault=f"{lost[0]} is lost or changed")
    again = commands.run(command, town.folder)
    if again.code != 0:
        return Result(kind=kind, fault=f"the restarted command failed ({again.code}): {again.errors[-300:]}")
    return Result(kind=kind, fault=town.difference(stage, folder))


def _is_kept(path: Path, content: bytes) -> bool:
    return path.name in VOLATILE or (path.is_file() and path.read_bytes() == content)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system; without permission, use a folder and yield False."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _fill(filler: Path, free: int) -> None:
    """Fill the disk except for `free` bytes."""
    stats = os.statvfs(filler.parent)
    with filler.open("wb") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, max(PAGE, stats.f_bavail * stats.f_frsize - free))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _limited(size: int) -> Callable[[], None]:
    """Return a function that limits the size of files."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
