"""`city.json` on disk and in memory, and the file names of a run."""

import copy
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.manifest import RENDERING_KEYS, City, read_city, with_rendering, write_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.partitioning.block import Block

CITY = City(
    blocks=(
        Block(name="b000", origin=(0.1, -2.0, 3.0), radius=12.5),
        Block(name="b001", origin=(1e3, 1 / 3, 0.0), radius=7.0),
    ),
    preset="standard",
    test_every=5,
    weighting="nearest",
    power=1.0,
    selection_radius=2.0,
    visibility_threshold=0.1,
)


def write_changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    write_city(CITY, path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_city_round_trips(tmp_path: Path) -> None:
    write_city(CITY, tmp_path / "city.json")
    loaded = read_city(tmp_path / "city.json")
    assert loaded == CITY
    assert loaded.digest == CITY.digest


@pytest.mark.parametrize(
    "changes", [{"blocks": CITY.blocks[:1]}, {"preset": "draft"}, {"test_every": 6}, {"test_frames": (3,)}]
)
def test_digest_depends_on_training_settings(changes: dict[str, Any]) -> None:
    assert replace(CITY, **changes).digest != CITY.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"weighting": "inverse_distance_2d"},
        {"power": 2.0},
        {"selection_radius": 2.5},
        {"visibility_threshold": 0.0},
    ],
)
def test_digest_ignores_rendering_settings(changes: dict[str, Any]) -> None:
    assert replace(CITY, **changes).digest == CITY.digest


def test_every_key_affects_training_or_rendering() -> None:
    counted = {"blocks", "preset", "test_every", "test_frames"}
    assert counted | set(RENDERING_KEYS) == {field.name for field in fields(City)}


def test_digest_ignores_number_formatting(tmp_path: Path) -> None:
    content = write_changed(tmp_path / "city.json", lambda document: document.update(power=1, selection_radius=2))
    assert '"power": 1,' in content.read_text()
    assert read_city(content).digest == CITY.digest


@pytest.mark.parametrize(
    ("test_every", "expected"), [(8, [4, 12]), (2, [1, 3, 5, 7, 9, 11, 13, 15]), (3, [1, 4, 7, 10, 13]), (0, [])]
)
def test_every_nth_frame_is_held_out(test_every: int, expected: list[int]) -> None:
    city = replace(CITY, test_every=test_every)
    assert [i for i in range(16) if city.is_test_frame(i)] == expected


def test_listed_test_frames_come_before_the_rule(tmp_path: Path) -> None:
    city = replace(CITY, test_frames=(1, 4))
    write_city(city, tmp_path / "city.json")
    loaded = read_city(tmp_path / "city.json")
    assert loaded == city
    assert [i for i in range(9) if loaded.is_test_frame(i)] == [1, 4]


def test_block_lookup_by_name() -> None:
    assert CITY.block("b001") is CITY.blocks[1]
    with pytest.raises(RunError, match="no block 'b7' among its 2; name one of b000 to b001"):
        CITY.block("b7")


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing key": (lambda d: d.pop("power"), "power is missing; add it, or restore the file"),
    "unknown key": (lambda d: d.update(powr=1), "powr is an unknown key"),
    "unknown block key": (lambda d: d["blocks"][1].update(size=1), r"blocks\[1\].size is an unknown key"),
    "not a list": (lambda d: d.update(blocks={}), "blocks is {}, not a list"),
    "no blocks": (lambda d: d.update(blocks=[]), "blocks: there are none"),
    "not a block": (lambda d: d["blocks"].append(3), r"blocks\[2\] is 3, not an object"),
    "twin": (lambda d: d["blocks"].append(d["blocks"][0]), "blocks: two are named 'b000'"),
    "name climbs out": (lambda d: d["blocks"][0].update(name="../b000"), r"blocks\[0\].name: '../b000'"),
    "name is a number": (lambda d: d["blocks"][0].update(name=0), r"blocks\[0\].name is 0, not text"),
    "flat origin": (
        lambda d: d["blocks"][0].update(origin=[1, 2]),
        r"blocks\[0\].origin is .*, not a list of",
    ),
    "text in origin": (
        lambda d: d["blocks"][0].update(origin=[1, 2, "3"]),
        r"blocks\[0\].origin\[2\] is '3', not a",
    ),
    "NaN origin": (
        lambda d: d["blocks"][0].update(origin=[1, 2, float("nan")]),
        r"blocks\[0\].origin\[2\] is not a finite number",
    ),
    "zero radius": (lambda d: d["blocks"][1].update(radius=0), r"blocks\[1\].radius: 0.0 is not a positive"),
    "infinite radius": (
        lambda d: d["blocks"][1].update(radius=float("inf")),
        r"blocks\[1\].radius is not a finite",
    ),
    "odd preset": (lambda d: d.update(preset="huge"), "preset: 'huge' is none of draft, standard, fine"),
    "every frame held out": (lambda d: d.update(test_every=1), "test_every: 1 is neither"),
    "wrong test frames": (lambda d: d.update(test_frames=[1.5]), r"test_frames\[0\] is 1.5, not a whole number"),
    "half a frame": (lambda d: d.update(test_every=7.5), "test_every is 7.5, not a whole number"),
    "true as a number": (lambda d: d.update(power=True), "power is True, not a number"),
    "negative power": (lambda d: d.update(power=-1), "power: -1.0 is not a positive"),
    "odd weighting": (lambda d: d.update(weighting="best"), "weighting: 'best' is none of nearest, "),
    "radius of nothing": (lambda d: d.update(selection_radius=0), "selection_radius: 0.0 is not"),
    "threshold culls all": (lambda d: d.update(visibility_threshold=1), "visibility_threshold: 1.0 is not"),
    "newer": (lambda d: d.update(format="blocknerf.city/9"), "newer than this version reads .*; update blocknerf"),
    "foreign": (lambda d: d.update(format="blocknerf.capture/2"), "'blocknerf.capture/2' is not blocknerf.city/2"),
    "no format": (lambda d: d.pop("format"), "format: None is not blocknerf.city/2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_content_raises_one_line_with_file_and_hint(name: str, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    path = write_changed(tmp_path / "city.json", change)
    with pytest.raises(RunError, match=message) as caught:
        read_city(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_truncated_file_raises(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"city\.json"):
        read_city(tmp_path / "city.json")
    write_city(CITY, tmp_path / "city.json")
    content = (tmp_path / "city.json").read_bytes()
    (tmp_path / "city.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match="not valid JSON"):
        read_city(tmp_path / "city.json")


def test_city_in_memory_is_validated() -> None:
    with pytest.raises(RunError, match="power: inf is not a positive number; "):
        replace(CITY, power=float("inf"))


def test_run_folder_paths() -> None:
    run = RunFolder(Path("street"))
    shared = [run.capture, run.city, run.map, run.coverage, run.appearance_dir, run.renders, run.evaluation, run.report]
    assert [path.as_posix().removeprefix("street/") for path in shared] == [
        "capture.json",
        "city.json",
        "map.png",
        "coverage.json",
        "appearance",
        "renders",
        "evaluation.json",
        "report.html",
    ]
    block = [run.frames, run.field, run.occupancy, run.checkpoint, run.train_summary, run.log]
    assert [path("b003").relative_to("street/blocks/b003").as_posix() for path in block] == [
        "frames.json",
        "field.safetensors",
        "occupancy.safetensors",
        "checkpoint",
        "train.json",
        "log.jsonl",
    ]
    assert run.render_folder("noon").as_posix() == "street/renders/noon"


def test_block_is_trained_when_its_field_exists(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.trained_blocks() == ()
    for name in ("b002", "b000", "b001"):
        run.block_folder(name).mkdir(parents=True)
    for name in ("b002", "b000"):
        run.field(name).touch()
    assert run.trained_blocks() == ("b000", "b002")


def test_options_replace_rendering_settings_only() -> None:
    other = with_rendering(CITY, power=2.0, weighting="inverse_distance_3d")
    assert (other.power, other.weighting) == (2.0, "inverse_distance_3d")
    assert (other.selection_radius, other.visibility_threshold) == (2.0, 0.1)
    assert other.digest == CITY.digest
    assert with_rendering(CITY) == CITY


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((option, value) for option in ("power", "selection_radius") for value in (0.0, -1.0, float("nan"), 1e300)),
        *(("visibility_threshold", value) for value in (-0.1, 0.5, float("nan"))),
    ],
)
def test_option_out_of_range_is_named(option: str, value: float) -> None:
    with pytest.raises(RunError, match=rf"^--{option.replace('_', '-')} .*; give another, or omit it for "):
        with_rendering(CITY, **{option: value})


@pytest.mark.parametrize("key", ["power", "selection_radius", "visibility_threshold", "weighting"])
def test_invalid_rendering_setting_keeps_trained_blocks(key: str, tmp_path: Path) -> None:
    value = "odd" if key == "weighting" else -1
    path = write_changed(tmp_path / "city.json", lambda document: document.update({key: value}))
    with pytest.raises(RunError, match="; correct it; the trained blocks stay valid"):
        read_city(path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("weighting", "weighting: 'mine' is none of nearest, .*, visibility_image; correct it"),
        ("preset", "preset: 'mine' is none of draft, standard, fine; "),
    ],
)
def test_invalid_choice_raises_in_memory(key: str, message: str) -> None:
    city = copy.copy(CITY)
    object.__setattr__(city, key, "mine")  # bypasses the runtime type checks of tests
    with pytest.raises(RunError, match=message):
        city.__post_init__()
