"""Atomic writes and bounded reads."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocknerf.errors import CaptureError, RunError
from blocknerf.files import (
    atomic_folder,
    atomic_path,
    check_format_version,
    read_bounded,
    write_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_leaves_no_temporary_file(tmp_path):
    write_atomic(tmp_path / "deep" / "city.json", "grüße\n")
    assert (tmp_path / "deep" / "city.json").read_text(encoding="utf-8") == "grüße\n"
    write_atomic(tmp_path / "deep" / "city.json", b"second")
    assert (tmp_path / "deep" / "city.json").read_bytes() == b"second"
    assert names(tmp_path / "deep") == ["city.json"]


def test_the_temporary_path_keeps_suffix_and_folder(tmp_path):
    with atomic_path(tmp_path / "video.mp4") as part:
        assert part.suffix == ".mp4"
        assert part.parent == tmp_path
        part.write_bytes(b"frames")
        assert not (tmp_path / "video.mp4").exists()
    assert names(tmp_path) == ["video.mp4"]


def write_half(path: Path, failure: BaseException) -> None:
    """Start a write, and fail."""
    with atomic_path(path) as part:
        part.write_bytes(b"half")
        raise failure


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path, failure):
    write_atomic(tmp_path / "field.bin", b"old")
    with pytest.raises(failure):
        write_half(tmp_path / "field.bin", failure())
    with pytest.raises(failure):
        write_half(tmp_path / "new.bin", failure())
    assert (tmp_path / "field.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["field.bin"]


def make_folder(path: Path, name: str) -> None:
    with atomic_folder(path) as part:
        (part / name).write_bytes(b"image")


def test_a_folder_is_created_atomically(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        make_folder(tmp_path / name, "a.png")
        assert names(tmp_path / name) == ["a.png"]
    assert names(tmp_path) == ["empty", "new"]


def test_a_folder_with_content_is_never_replaced(tmp_path):
    make_folder(tmp_path / "frames", "a.png")
    with pytest.raises(RunError, match=r"frames: already exists; give a new or empty folder$"):
        make_folder(tmp_path / "frames", "b.png")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"file: already exists"):
        make_folder(tmp_path / "file", "b.png")
    assert names(tmp_path) == ["file", "frames"]
    assert names(tmp_path / "frames") == ["a.png"]


@pytest.mark.parametrize("target", ["images", "images/", "images/.", "images/deep/..", "link"])
def test_a_file_never_replaces_a_folder(tmp_path, target):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "a.jpg").write_bytes(b"image")
    (tmp_path / "link").symlink_to(tmp_path / "images")
    with pytest.raises(RunError, match=r"cannot be written, since it is a folder; give the path of a file$"):
        write_atomic(f"{tmp_path}/{target}", "{}")
    assert names(tmp_path / "images") == ["a.jpg", "deep"]
    assert names(tmp_path) == ["images", "link"]


def test_the_working_folder_cannot_be_written_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", "..", "/"):
        with pytest.raises(RunError, match="it is a folder"):
            write_atomic(path, "{}")


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="it is not a regular file; give the path of a file"):
        write_atomic(tmp_path / "pipe", "{}")
    assert (tmp_path / "pipe").is_fifo()


def test_a_symbolic_link_is_kept_and_its_target_is_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "city.json").symlink_to(tmp_path / "disk" / "city.json")
    write_atomic(tmp_path / "city.json", "new")
    assert (tmp_path / "city.json").is_symlink()
    assert (tmp_path / "disk" / "city.json").read_text() == "new"
    assert names(tmp_path / "disk") == ["city.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path, mask):
    old_mask = os.umask(mask)
    try:
        write_atomic(tmp_path / "a.json", "{}")
    finally:
        os.umask(old_mask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~mask


KILLED = """
import os, signal, sys
from blocknerf.files import {kind}
with {kind}(sys.argv[1]) as part:
    if part.is_dir():
        part = part / "a.png"
    part.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["atomic_path", "atomic_folder"])
def test_leftovers_of_a_killed_write_are_removed_at_the_next_start(tmp_path, kind):
    script = KILLED.format(kind=kind)
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "video.mp4")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    script = "import sys; from blocknerf.files import write_atomic; write_atomic(sys.argv[1], 'x')"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "other.json")], check=True)
    assert names(tmp_path) == ["other.json"]


def test_an_unfinished_write_of_another_host_is_removed_after_a_day(tmp_path):
    for folder, age in (("fresh", 0.0), ("old", 2 * 24 * 3600.0)):
        part = tmp_path / folder / ".video.0123abcd-999999-0.part.mp4"
        part.parent.mkdir()
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age,) * 2)
        write_atomic(tmp_path / folder / "a.json", "{}")
    assert names(tmp_path / "fresh") == [".video.0123abcd-999999-0.part.mp4", "a.json"]
    assert names(tmp_path / "old") == ["a.json"]


def test_files_with_similar_names_are_kept(tmp_path):
    similar = [".notes.part", ".a.1234.part.json", "video.0123abcd-1-0.part.mp4"]
    for name in similar:
        (tmp_path / name).write_text("mine")
    write_atomic(tmp_path / "a.json", "{}")
    assert names(tmp_path) == sorted([*similar, "a.json"])


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_one_line_error_and_leaves_nothing(tmp_path, failure):
    write_atomic(tmp_path / "log.json", "old")
    with pytest.raises(RunError) as caught:
        write_half(tmp_path / "log.json", failure)
    assert str(caught.value) == (
        f"{tmp_path}/log.json: the disk is full, nothing was written; free some space and run the same command again"
    )
    assert names(tmp_path) == ["log.json"]
    assert (tmp_path / "log.json").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
def test_a_full_device_is_reported(tmp_path):
    with pytest.raises(RunError, match="the disk is full"), atomic_path(tmp_path / "a.json"):
        Path("/dev/full").write_text("x" * 100_000)
    assert names(tmp_path) == []


def test_a_path_that_is_not_writable_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match=r"cannot be written .*; choose another folder"):
        write_atomic(tmp_path / "file" / "city.json", "{}")


def test_errors_of_other_files_propagate(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out.json"):
        (tmp_path / "input.json").read_text()
    assert names(tmp_path) == []


def test_a_file_over_the_limit_is_rejected_without_reading(tmp_path):
    path = tmp_path / "points.ply"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(RunError, match=r"points\.ply: this point file is larger than the limit of 1 MiB"):
        read_bounded(path, "point file", RunError, 1 << 20)
    path.write_bytes(b"x" * 10)
    assert read_bounded(path, "point file", RunError, 10) == b"x" * 10
    with pytest.raises(RunError, match="is larger"):
        read_bounded(path, "point file", RunError, 9)
    assert len(read_bounded(path, "point file", RunError, 1 << 60)) == 10, (
        "allocates the size of the file, not the limit"
    )


@pytest.mark.parametrize(
    "format_version", [None, 3, "", "blocknerf.city", "blocknerf.city/one", "blocknerf.city/0", "xblocknerf.city/2"]
)
def test_another_format_is_rejected_with_the_remedy(format_version):
    with pytest.raises(CaptureError) as caught:
        check_format_version(format_version, "blocknerf.city/2", "a.json", "write it again", CaptureError)
    assert str(caught.value) == f"a.json: format: {format_version!r} is not blocknerf.city/2; write it again"


def test_an_older_format_is_reported_as_older():
    with pytest.raises(RunError) as caught:
        check_format_version("blocknerf.city/1", "blocknerf.city/2", "city.json", "partition again")
    assert str(caught.value) == (
        "city.json: format: blocknerf.city/1 is older than this version reads (blocknerf.city/2); partition again"
    )


def test_a_newer_format_asks_for_an_update_and_the_expected_one_passes():
    with pytest.raises(
        RunError, match=r"city: format: blocknerf.city/22 is newer than .* \(blocknerf.city/2\); update"
    ):
        check_format_version("blocknerf.city/22", "blocknerf.city/2", "city", "write it again")
    check_format_version("blocknerf.city/2", "blocknerf.city/2", "city", "write it again")
