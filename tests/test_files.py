"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
from pathlib import Path

import pytest

from blocknerf.errors import CaptureError, RunError
from blocknerf.files import atomic_path, check_format, format_json, read_json, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_under_its_name_alone(tmp_path):
    write_atomic(tmp_path / "deep" / "city.json", "grüße\n")
    assert (tmp_path / "deep" / "city.json").read_text(encoding="utf-8") == "grüße\n"
    write_atomic(tmp_path / "deep" / "city.json", b"second")
    assert (tmp_path / "deep" / "city.json").read_bytes() == b"second"
    assert names(tmp_path / "deep") == ["city.json"]


def test_the_temporary_name_keeps_the_suffix_and_stands_beside(tmp_path):
    with atomic_path(tmp_path / "video.mp4") as part:
        assert part.suffix == ".mp4"
        assert part.parent == tmp_path
        part.write_bytes(b"frames")
        assert not (tmp_path / "video.mp4").exists()
    assert names(tmp_path) == ["video.mp4"]


def write_half(path: Path, failure: BaseException) -> None:
    """Begin to write, and fail."""
    with atomic_path(path) as part:
        part.write_bytes(b"half")
        raise failure


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_trace(tmp_path, failure):
    write_atomic(tmp_path / "field.bin", b"old")
    with pytest.raises(failure):
        write_half(tmp_path / "field.bin", failure())
    with pytest.raises(failure):
        write_half(tmp_path / "new.bin", failure())
    assert (tmp_path / "field.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["field.bin"]


def test_a_folder_is_made_and_replaced_as_one(tmp_path):
    for generation in ("first", "second"):
        with atomic_path(tmp_path / "frames") as part:
            part.mkdir()
            (part / f"{generation}.png").write_bytes(b"picture")
        assert names(tmp_path / "frames") == [f"{generation}.png"]
    with pytest.raises(FileExistsError):
        write_half_folder(tmp_path / "frames")
    assert names(tmp_path) == ["frames"]
    assert names(tmp_path / "frames") == ["second.png"]


def write_half_folder(path: Path) -> None:
    with atomic_path(path) as part:
        part.mkdir()
        (part / "a.png").write_bytes(b"picture")
        raise FileExistsError("another")


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, failure):
    write_atomic(tmp_path / "log.json", "old")
    with pytest.raises(RunError) as caught:
        write_half(tmp_path / "log.json", failure)
    assert str(caught.value) == (
        f"{tmp_path}/log.json: the disk is full, nothing was written; free some space and run the same command again"
    )
    assert names(tmp_path) == ["log.json"]
    assert (tmp_path / "log.json").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
def test_a_really_full_device_is_named(tmp_path):
    with pytest.raises(RunError, match="the disk is full"), atomic_path(tmp_path / "a.json"):
        Path("/dev/full").write_text("x" * 100_000)
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match=r"cannot be written .*; choose another folder"):
        write_atomic(tmp_path / "file" / "city.json", "{}")


def test_failures_of_other_files_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out.json"):
        (tmp_path / "input.json").read_text()
    assert names(tmp_path) == []


def test_json_keeps_its_order_and_its_numbers(tmp_path):
    data = {"b": 0.1 + 0.2, "a": [1, None, True], "name": "Straße"}
    write_atomic(tmp_path / "a.json", format_json(data))
    assert list(read_json(tmp_path / "a.json", "test")) == ["b", "a", "name"]
    assert read_json(tmp_path / "a.json", "test") == data
    with pytest.raises(ValueError, match="JSON"):
        format_json({"psnr": float("nan")})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "this city file does not exist; check the path, or run the job that writes it"),
        (b'{"a": 1,}', "this city file is not valid JSON (line 1 column 9: "),
        (b"", "this city file is not valid JSON (line 1 column 1: Expecting value); correct it or write it again"),
        (b'"\xff"', "this city file is not UTF-8 text; correct it or write it again"),
        (b"[1]", "this city file holds a list, not an object; write it again"),
    ],
)
def test_json_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, complaint):
    path = tmp_path / "city.json"
    if content is not None:
        path.write_bytes(content)
    for kind in (RunError, CaptureError):
        with pytest.raises(kind) as caught:
            read_json(path, "city", kind)
        assert str(caught.value).startswith(f"{path}: {complaint}")
        assert "\n" not in str(caught.value)


def test_a_folder_is_no_json(tmp_path):
    with pytest.raises(RunError, match="cannot be read"):
        read_json(tmp_path, "city")


@pytest.mark.parametrize(
    "found", [None, 3, "", "blocknerf.city", "blocknerf.city/one", "blocknerf.city/0", "xblocknerf.city/2"]
)
def test_a_foreign_format_is_refused_with_the_remedy(found):
    with pytest.raises(CaptureError) as caught:
        check_format(found, "blocknerf.city/1", "a.json", "write it again", CaptureError)
    assert str(caught.value) == f"a.json: format: {found!r} is not blocknerf.city/1; write it again"


def test_a_newer_format_asks_for_a_newer_program_and_the_expected_one_passes():
    with pytest.raises(
        RunError, match=r"city: format: blocknerf.city/12 is newer than .* \(blocknerf.city/2\); update"
    ):
        check_format("blocknerf.city/12", "blocknerf.city/2", "city", "write it again")
    check_format("blocknerf.city/2", "blocknerf.city/2", "city", "write it again")
