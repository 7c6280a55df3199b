"""JSON files: content is decoded into its type, and everything else is a one-line error."""

import json
import os
from types import MappingProxyType

import msgspec
import numpy as np
import pytest

from blocknerf.errors import CaptureError, RunError
from blocknerf.files import format_json, write_atomic
from blocknerf.json_file import Count, JsonFile, Number, Record, Vec3, Whole, read_format, read_json


class View(Record, frozen=True, kw_only=True):
    index: Count
    size: Whole = 1.0
    gps: Vec3 | None = None
    scores: dict[str, Number] = msgspec.field(default_factory=dict)


class Views(Record, frozen=True, kw_only=True, tag_field="format", tag="blocknerf.views/2"):
    is_metric: bool
    views: tuple[View, ...]


FILE = JsonFile(content=Views, what="view", remedy="list the views again", error=CaptureError)
VIEWS = Views(is_metric=True, views=(View(index=0, gps=(1.0, 2.0, 0.1 + 0.2)), View(index=1, scores={"b000": 0.5})))
DOCUMENT = {"format": "blocknerf.views/2", "is_metric": True, "views": [{"index": 0}, {"index": 1}]}


def test_content_round_trips_and_names_its_format_first(tmp_path):
    FILE.write(VIEWS, tmp_path / "views.json")
    assert FILE.read(tmp_path / "views.json") == VIEWS
    assert list(json.loads((tmp_path / "views.json").read_text())) == ["format", "is_metric", "views"]
    assert read_format(tmp_path / "views.json", "view") == "blocknerf.views/2"


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        FILE.write(Views(is_metric=True, views=(View(index=0, size=float("nan")),)), tmp_path / "views.json")
    assert not (tmp_path / "views.json").exists()


def test_numbers_of_numpy_and_other_mappings_are_written(tmp_path):
    scores = MappingProxyType({"b000": np.float64(0.1)})
    FILE.write(Views(is_metric=True, views=(View(index=0, scores=scores),)), tmp_path / "views.json")
    assert FILE.read(tmp_path / "views.json").views[0].scores == {"b000": 0.1}


INVALID = {
    "missing": ({"is_metric": ...}, "is_metric is missing; add it, or list the views again"),
    "unknown": ({"metrik": 1}, "metrik is an unknown key; remove it, or list the views again"),
    "unknown with a line break": ({"a\nb": 1}, r"'a\nb' is an unknown key; remove it, or list the views again"),
    "type": ({"is_metric": "yes"}, "is_metric is 'yes', not true or false; correct it, or list the views again"),
    "long": ({"is_metric": "x" * 60}, "is_metric is 'xxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxx', not true or false;"),
    "nested": ({"views": [{"index": 0}, {"index": "1"}]}, "views[1].index is '1', not a whole number; correct it"),
    "range": ({"views": [{"index": -1}]}, "views[0].index is -1, not a whole number >= 0; correct it"),
    "fraction": ({"views": [{"index": 0, "size": 2.5}]}, "views[0].size is 2.5, not a whole number; correct it"),
    "length": ({"views": [{"index": 0, "gps": [1, 2]}]}, "views[0].gps is [1, 2], not a list of length 3; correct it"),
    "element": ({"views": [{"index": 0, "gps": [1, "b", 3]}]}, "views[0].gps[1] is 'b', not a number; correct it"),
    "either": ({"views": [{"index": 0, "gps": 3}]}, "views[0].gps is 3, not a list or null; correct it"),
    "mapping": ({"views": [{"index": 0, "scores": {"a": "b"}}]}, "views[0].scores[...] is not a number; correct it"),
    "NaN": ({"views": [{"index": 0, "gps": [1, float("nan"), 3]}]}, "views[0].gps[1] is not a finite number; correct"),
    "infinite": ({"is_metric": float("inf")}, "is_metric is not a finite number; correct it, or list the views again"),
    "huge": ({"views": [{"index": 0, "gps": [1e300, 0, 0]}]}, "views[0].gps[0] is 1e+300, not a number <= 9.2"),
    "digits": ({"views": [{"index": 10**400}]}, "views[0].index is 1000"),
    "older": ({"format": "blocknerf.views/1"}, "format: blocknerf.views/1 is older than this version reads"),
    "newer": ({"format": "blocknerf.views/3", "metrik": 1}, "format: blocknerf.views/3 is newer than this version"),
    "foreign": ({"format": 3}, "format: 3 is not blocknerf.views/2; list the views again"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_content_is_a_one_line_error_with_file_and_key(tmp_path, name):
    change, message = INVALID[name]
    path = tmp_path / "views.json"
    path.write_text(json.dumps({key: value for key, value in (DOCUMENT | change).items() if value is not ...}))
    with pytest.raises(CaptureError) as caught:
        FILE.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_the_key_follows_a_line_of_a_log():
    with pytest.raises(RunError) as caught:
        JsonFile(content=View, what="log").decode(b'{"index": 1.5}', "log.jsonl: line[2]")
    assert str(caught.value) == "log.jsonl: line[2].index is 1.5, not a whole number; correct it"


def test_a_list_of_records_is_read_and_its_items_are_named():
    file = JsonFile(content=list[View], what="view")
    assert file.decode(b'[{"index": 3}]', "a.json") == [View(index=3)]
    with pytest.raises(RunError, match=r"^a\.json: \[0\]\.index is 'x', not a whole number; correct it$"):
        file.decode(b'[{"index": "x"}]', "a.json")


def test_other_keys_may_be_allowed():
    class Lenient(msgspec.Struct):
        name: str | int | None = None

    assert JsonFile(content=Lenient, what="view").decode(b'{"name": 3, "more": [1]}', "a.json") == Lenient(name=3)


def test_json_keeps_order_and_numbers(tmp_path):
    data = {"b": 0.1 + 0.2, "a": [1, None, True], "name": "Straße"}
    write_atomic(tmp_path / "a.json", format_json(data))
    assert list(read_json(tmp_path / "a.json", "test")) == ["b", "a", "name"]
    assert read_json(tmp_path / "a.json", "test") == data
    with pytest.raises(ValueError, match="JSON"):
        format_json({"psnr": float("nan")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "this city file does not exist; check the path, or run the job that writes it"),
        (b'{"a": 1,}', "this city file is not valid JSON (line 1 column 9: "),
        (b'{"a":\n 1 2}', "this city file is not valid JSON (line 2 column 4: "),
        (b"", "this city file is not valid JSON (line 1 column 1: cut short); correct it or write it again"),
        (b'{"a": "\xff"}', "this city file is not UTF-8 text; correct it or write it again"),
        (b"[" * 100_000, "the content is not an object; correct it"),
        (b'{"a":' * 100_000, "this city file is not valid JSON (nested too deeply); correct it or write it again"),
        (b"[1]", "the content is [1], not an object; correct it"),
        (b'{"a": -1' + b"0" * 5000 + b"}", "[...] is out of range; correct it"),
        (b'{"a": "\\ud800 and more"}', "this city file is not valid JSON (line 1 column 14: unexpected end of escaped"),
        ('{"a": 1}'.encode("utf-16"), "this city file is not valid JSON"),
        ('{"a": 1}'.encode("utf-32-le"), "this city file is not valid JSON"),
    ],
)
def test_bad_json_is_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "city.json"
    if content is not None:
        path.write_bytes(content)
    for kind in (RunError, CaptureError):
        with pytest.raises(kind) as caught:
            read_json(path, "city", kind)
        assert str(caught.value).startswith(f"{path}: {message}")
        assert "\n" not in str(caught.value)


def test_a_folder_is_not_read_as_json(tmp_path):
    with pytest.raises(RunError, match=r"this city file cannot be read \(it is a folder\); check the path"):
        read_json(tmp_path, "city")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "pipe"])
def test_devices_and_pipes_are_not_read(tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match=r"cannot be read \(it is not a regular file\)"):
        read_json(tmp_path / path, "city")


def test_an_impossible_path_is_rejected(tmp_path):
    for path in (tmp_path / ("a" * 300), tmp_path / "a\0b"):
        with pytest.raises(RunError, match="this city file cannot be read"):
            read_json(path, "city")


def test_json_may_start_with_a_byte_order_mark_and_hold_any_character(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": "\\ud83d\\ude00", "b": "\\\\ud800"}')
    assert read_json(path, "list") == {"a": "\U0001f600", "b": "\\ud800"}
