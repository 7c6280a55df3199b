"""Disks that are full at some moment: a command says so in one line, loses nothing, and goes on when there is space."""

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
from tests.benchmarks.faults.town import VOLATILE, Town, files
from tests.benchmarks.faults.verdicts import Result

STAGES = ("train", "render", "run", "match", "evaluate", "partition", "ingest", "report")
ROOM = 64 << 20
"""Bytes of the small file system."""
PAGE = 4096


def full_disks(town: Town, count: int, chance: random.Random) -> Iterator[Result]:
    """So many full disks, each with room for another share of what a command writes."""
    with small_disk(town.folder / "disk") as mounted:
        for number in range(count):
            stage = STAGES[number % len(STAGES)]
            yield _filled(town, stage, chance.uniform(0.0, 0.9), mounted)


def _filled(town: Town, stage: str, share: float, mounted: bool) -> Result:
    folder = town.folder / "disk" / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(town.before(stage), folder)
    before = {path: (folder / path).read_bytes() for path in files(folder)}
    largest = max((town.after(stage) / path).stat().st_size for path in files(town.after(stage)) - before.keys())
    needed = sum((town.after(stage) / path).stat().st_size for path in files(town.after(stage)) - before.keys())
    kind, command = f"full disk, {stage}", town.command(stage, folder)
    filler = folder.parent / "filler"
    if mounted:
        _fill(filler, int(share * needed))
        first = commands.run(command, town.folder)
    else:
        first = commands.run(command, town.folder, _limited(int(share * largest)))
    filler.unlink(missing_ok=True)
    if first.code != 0 and first.refusal is None:
        return Result(kind=kind, fault=f"not one line but {first.code}: {first.errors[-300:]}")
    lost = [path for path, content in before.items() if not _is_kept(folder / path, content)]
    if lost:
        return Result(kind=kind, fault=f"{lost[0]} is lost or another")
    again = commands.run(command, town.folder)
    if again.code != 0:
        return Result(kind=kind, fault=f"the command did not go on ({again.code}): {again.errors[-300:]}")
    return Result(kind=kind, fault=town.difference(stage, folder))


def _is_kept(path: Path, content: bytes) -> bool:
    return path.name in VOLATILE or (path.is_file() and path.read_bytes() == content)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small file system of its own; where it may not be mounted, a folder, and False."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _fill(filler: Path, free: int) -> None:
    """Leave so many bytes free."""
    room = os.statvfs(filler.parent)
    with filler.open("wb") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, max(PAGE, room.f_bavail * room.f_frsize - free))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _limited(size: int) -> Callable[[], None]:
    """Let no file become larger than this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
