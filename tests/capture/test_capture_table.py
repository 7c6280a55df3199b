"""The table next to capture.json: the same capture, and never another one than the JSON file."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blocknerf.capture import Capture, Frame, Intrinsics, read_capture, write_capture
from blocknerf.capture.capture_table import table_path
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.frame_table import FrameTable, to_table
from blocknerf.errors import CaptureError

LENSES = [Intrinsics(width=40, height=30 + i, fx=25.0, fy=25.0, cx=20.0, cy=15.0) for i in range(2)]


def make_frame(index: int, **fields) -> Frame:
    pose = pose_from_flat([1.0, 0.0, 0.0, index / 3, 0.0, 1.0, 0.0, 0.1, 0.0, 0.0, 1.0, -7.0])
    name = f"bild {index} \u00e4\n" if index % 2 else ""
    image = f"images/{index}.png"
    values = {"segment": f"s{index // 3}", "camera": "front" if index % 2 else "", "intrinsics": LENSES[index % 2]}
    return Frame(**{"name": name or image, "image": image, "camera_to_world": pose, **values, **fields})


FRAMES = (
    make_frame(0),
    make_frame(1, mask="m.png", sky_mask="s.png", timestamp=0.0, exposure=0.01, gps=(48.0, 11.0, -2.0)),
    make_frame(2, grayscale=True, split="test", depth="d.png", colmap_id=0),
    make_frame(3, split="train", timestamp=1.6e9 + 1 / 3),
)


@pytest.fixture(autouse=True)
def small_captures_have_tables(monkeypatch) -> None:
    monkeypatch.setattr("blocknerf.capture.capture_table.MIN_FRAMES", 2)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Capture, Path]:
    capture = Capture(image_dir=tmp_path, frames=FRAMES, is_metric=True, source="a test", notes=("a note",))
    write_capture(capture, tmp_path / "capture.json")
    return capture, tmp_path / "capture.json"


def test_capture_from_a_table_is_that_of_the_file(written: tuple[Capture, Path]) -> None:
    capture, path = written
    opened = read_capture(path)
    assert isinstance(opened.frames, FrameTable)
    assert opened == capture
    assert isinstance(read_capture(path, use_table=False).frames, tuple)
    assert hash(opened.frames) == hash(capture.frames)
    assert opened.frames[-1] == FRAMES[-1]
    assert opened.frames[1:3] == FRAMES[1:3]
    assert (opened.segments, opened.extent, opened.name(1)) == (capture.segments, capture.extent, FRAMES[1].name)
    for key in Frame.__dataclass_fields__:
        assert opened.column(key) == capture.column(key)
    for key, values in vars_of(opened.cameras()).items():
        assert torch.equal(values, vars_of(capture.cameras())[key])
    with pytest.raises(IndexError):
        opened.frames[4]
    assert opened.frames != FRAMES[:3]
    assert opened.frames != (*FRAMES[:3], replace(FRAMES[3], timestamp=None))


def vars_of(cameras) -> dict[str, torch.Tensor]:
    return {key: getattr(cameras, key) for key in cameras.__dataclass_fields__}


def test_table_of_a_table_is_itself(written: tuple[Capture, Path]) -> None:
    frames = read_capture(written[1]).frames
    assert to_table(frames) is frames
    table = table_path(written[1])
    before = table.read_bytes(), written[1].read_bytes()
    write_capture(read_capture(written[1]), written[1])
    os.utime(written[1], ns=(1, 1))
    assert written[1].read_bytes() == before[1]
    assert isinstance(read_capture(written[1]).frames, FrameTable)


def is_from_table(path: Path) -> bool:
    return isinstance(read_capture(path).frames, FrameTable)


def test_edited_file_is_read_instead_of_its_table(written: tuple[Capture, Path]) -> None:
    _, path = written
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"a test"', '"a text"'), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert read_capture(path).source == "a text"
    assert not is_from_table(path)
    path.write_text(text.replace('"a test"', '"edited"').replace("images/2", "images/22"), encoding="utf-8")
    assert read_capture(path).frames[2].image == "images/22.png"


def test_copied_file_is_recognized_by_its_content(written: tuple[Capture, Path]) -> None:
    _, path = written
    os.utime(path, ns=(1, 1))
    assert is_from_table(path)


@pytest.mark.parametrize("position", [3, 200, -5])
def test_damaged_table_is_not_used(written: tuple[Capture, Path], position: int) -> None:
    capture, path = written
    data = bytearray(table_path(path).read_bytes())
    data[position] ^= 255
    table_path(path).write_bytes(data)
    assert read_capture(path) == capture
    assert not is_from_table(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 40])
def test_cut_table_is_not_used(written: tuple[Capture, Path], content: bytes) -> None:
    table_path(written[1]).write_bytes(content)
    assert read_capture(written[1]) == written[0]


def test_missing_capture_is_reported_whatever_table_there_is(written: tuple[Capture, Path]) -> None:
    written[1].unlink()
    with pytest.raises(CaptureError, match="does not exist"):
        read_capture(written[1])


def test_small_capture_has_no_table(written: tuple[Capture, Path]) -> None:
    capture, path = written
    write_capture(replace(capture, frames=FRAMES[:1]), path)
    assert not table_path(path).exists()
