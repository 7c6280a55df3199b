"""The record of a video is read as it was written, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from pipelines.render_record import FileMark, read_progress, read_record, write_record

NAME = "flythrough"
ODD = (None, 3, "text", [[1]], {"other": 3})
KEYS = ("settings", "path", "inputs", "frames", "videos", "depth_range", "frame_differences", "width")
VALID = [("width", 3), ("depth_range", None)]


@pytest.fixture
def document(finished_run: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(finished_run.render_summary(NAME).read_text())
    return content


def write(document: dict[str, Any], folder: Path) -> Path:
    path = folder / "render.json"
    path.write_text(json.dumps(document))
    return path


def test_a_record_is_read_as_written(finished_run: RunFolder, tmp_path: Path) -> None:
    record = read_record(finished_run.render_summary(NAME))
    write_record(record, tmp_path / "render.json")
    assert (tmp_path / "render.json").read_bytes() == finished_run.render_summary(NAME).read_bytes()
    assert read_record(tmp_path / "render.json") == record
    assert record.videos.keys() == {"frames", "depth"}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k in KEYS for v in ODD if (k, v) not in VALID])
def test_a_broken_record_is_refused_in_one_line(
    key: str, value: object, document: dict[str, Any], tmp_path: Path
) -> None:
    path = write(document | {key: value}, tmp_path)
    with pytest.raises(RunError, match=r"render\.json.*; (.*or )?(choose another --name|write \{)") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("weighting", "mine"), ("power", "much"), ("hide", 3), ("max_blocks", None), ("mix", []), ("power", None)],
)
def test_broken_settings_are_refused(key: str, value: object, document: dict[str, Any], tmp_path: Path) -> None:
    document["settings"][key] = value
    with pytest.raises(RunError, match=r"render\.json: settings\."):
        read_record(write(document, tmp_path))


def test_a_frame_of_blocks_without_fingerprints_is_refused(document: dict[str, Any], tmp_path: Path) -> None:
    del document["inputs"]["blocks"][document["frames"][0]["considered"][0]]
    with pytest.raises(RunError, match=r"frames\[\d+\]\.considered names 'b00\d', which is not in inputs\.blocks"):
        read_record(write(document, tmp_path))


def test_a_broken_line_of_the_log_is_refused(tmp_path: Path, finished_run: RunFolder) -> None:
    run = RunFolder(tmp_path)
    run.render_folder(NAME).mkdir(parents=True)
    run.render_summary(NAME).write_bytes(finished_run.render_summary(NAME).read_bytes())
    for line in ({"frame": 1}, {"frame": "first", "inputs": {}}, {"depth_range": 3}):
        run.render_log(NAME).write_text(json.dumps(line) + "\n")
        with pytest.raises(RunError, match=r"log\.jsonl: .*, or choose another --name"):
            read_progress(run, NAME)


def test_damage_is_described(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"0123")
    mark = FileMark.of(path)
    assert mark.damage(path) is None
    path.write_bytes(b"01")
    assert mark.damage(path) == "is damaged: it has 2 bytes, not 4"
    path.write_bytes(b"0124")
    assert mark.damage(path) == "is damaged: its content differs from what was written"
    path.unlink()
    assert mark.damage(path) == "is missing"
