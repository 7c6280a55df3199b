"""Every kind of bad input, through the command line: one line, exit code 2, and no partial files.

The messages are in golden/messages.txt, for review. `pytest tests/test_bad_input.py --update-golden` writes them.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from blocknerf.town.osm_writer import osm_xml
from pipelines.cli import main

GOLDEN = Path(__file__).parent / "golden" / "messages.txt"
FRAMES, WIDTH, HEIGHT = 12, 16, 12

Document = dict[str, Any]


class Place:
    """A tiny capture of a straight drive, and the run folder of a command that will fail."""

    def __init__(self, folder: Path) -> None:
        self.capture, self.run = folder / "capture", folder / "run"
        (self.capture / "images").mkdir(parents=True)
        for i in range(FRAMES):
            pixels = np.full((HEIGHT, WIDTH, 3), 10 * i, np.uint8)
            Image.fromarray(pixels).save(self.capture / "images" / f"{i}.png")
        self.write({"fl_x": 14.0, "fl_y": 14.0, "cx": 8.0, "cy": 6.0, "w": WIDTH, "h": HEIGHT, "frames": self.frames()})

    @staticmethod
    def frames() -> list[Document]:
        rotation = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]  # OpenGL axes; looks along y, the driving direction
        return [
            {
                "file_path": f"images/{i}.png",
                "transform_matrix": [[*rotation[0], 0.0], [*rotation[1], 2.0 * i], [*rotation[2], 1.5], [0, 0, 0, 1]],
            }
            for i in range(FRAMES)
        ]

    @property
    def transforms(self) -> Path:
        return self.capture / "transforms.json"

    def write(self, document: Document) -> None:
        self.transforms.write_text(json.dumps(document))

    def edit(self, change: Callable[[Document], object]) -> None:
        document = json.loads(self.transforms.read_text())
        change(document)
        self.write(document)

    def command(self, *arguments: object) -> list[str]:
        return [str(argument) for argument in arguments]

    def ingest(self) -> list[str]:
        return self.command("ingest", self.capture, self.run)

    def partitioned(self) -> None:
        for arguments in (self.ingest(), self.command("partition", self.run)):
            assert main(arguments) == 0

    def blocks(self) -> list[Path]:
        return sorted((self.run / "blocks").iterdir())


Case = Callable[[Place, pytest.MonkeyPatch], list[str]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Register a case: a function that prepares the files and returns the command that must fail."""
    CASES[function.__name__.replace("_", " ")] = function
    return function


def frame_edit(name: str, change: Callable[[Document], object]) -> None:
    """Register a case that changes the entry of one frame."""

    def prepare(place: Place, _: pytest.MonkeyPatch) -> list[str]:
        place.edit(lambda document: change(document["frames"][2]))
        return place.ingest()

    CASES[name] = prepare


frame_edit("non-rigid pose", lambda frame: frame["transform_matrix"][0].__setitem__(0, 2.0))
frame_edit("mirrored pose", lambda frame: frame["transform_matrix"][0].__setitem__(0, -1.0))
frame_edit("NaN pose", lambda frame: frame["transform_matrix"][1].__setitem__(3, float("nan")))
frame_edit("pose of the wrong shape", lambda frame: [row.pop() for row in frame["transform_matrix"]])
frame_edit("zero focal length", lambda frame: frame.update(fl_x=0.0))
frame_edit("negative focal length", lambda frame: frame.update(fl_y=-14.0))
frame_edit("duplicate frame", lambda frame: frame.update(file_path="images/1.png"))
frame_edit("path that leaves the capture", lambda frame: frame.update(file_path="../secret.png"))
frame_edit("absolute path", lambda frame: frame.update(file_path="/secret.png"))
frame_edit("mask path that leaves the capture", lambda frame: frame.update(mask_path="../mask.png"))
frame_edit("size that disagrees with the intrinsics", lambda frame: frame.update(w=32, h=24))


def option(job: str, *arguments: str) -> None:
    """Register a case with a bad option."""

    def prepare(place: Place, patch: pytest.MonkeyPatch) -> list[str]:
        patch.chdir(place.capture)
        (place.capture / "town.osm").write_text(osm_xml())
        if job != "partition":
            place.partitioned()
        else:
            assert main(place.ingest()) == 0
        return place.command(job, place.run, *arguments)

    CASES[f"{job} {' '.join(arguments)}".replace("--", "with ")] = prepare


option("partition", "--radius", "-5")
option("partition", "--test-every", "1")
option("partition", "--blocks", "nowhere.json")
option("partition", "--osm", "town.osm")
option("partition", "--osm", "town.osm", "--placement", "grid")
option("train", "--steps", "0")
option("train", "--downscale", "0")
option("train", "--downscale", "100")
option("train", "--image-cache-gb", "0")
option("view", "--block-cache-gb", "0")
option("train", "--pose-segment-length", "3")
option("match", "--appearance", "noon")
option("match", "--appearance", "../noon")
option("update", "--block", "b000", "--capture", "later")


@case
def missing_capture(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return place.command("ingest", place.capture.parent / "nowhere", place.run)


@case
def missing_image(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    (place.capture / "images" / "2.png").unlink()
    return place.ingest()


@case
def broken_image(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    (place.capture / "images" / "2.png").write_bytes(b"not an image")
    return place.ingest()


@case
def unreadable_json(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.transforms.write_text('{"frames": [')
    return place.ingest()


@case
def no_frames(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.edit(lambda document: document["frames"].clear())
    return place.ingest()


@case
def zero_size_mask(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    (place.capture / "mask.png").write_bytes(b"")
    place.edit(lambda document: document["frames"][2].update(mask_path="mask.png"))
    return place.ingest()


@case
def mask_of_another_size(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(place.capture / "mask.png")
    place.edit(lambda document: document["frames"][2].update(mask_path="mask.png"))
    return place.ingest()


@case
def missing_run(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return place.command("partition", place.run)


def with_blocks(place: Place, *blocks: Document) -> list[str]:
    assert main(place.ingest()) == 0
    file = place.capture / "blocks.json"
    file.write_text(json.dumps({"blocks": list(blocks)}))
    return place.command("partition", place.run, "--blocks", file)


FULL_DRIVE = {"name": "all", "origin": [0.0, 11.0, 1.5], "radius": 30.0}


@case
def frame_in_no_block(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_blocks(place, {"name": "start", "origin": [0.0, 0.0, 1.5], "radius": 9.0})


@case
def empty_block(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_blocks(place, FULL_DRIVE, {"name": "far", "origin": [900.0, 0.0, 1.5], "radius": 5.0})


def on_map(place: Place, osm: Path) -> list[str]:
    place.edit(lambda document: document.update(gps_origin_lat_lon_alt=[48.5, 9.5, 400.0]))
    assert main(place.ingest()) == 0
    return place.command("partition", place.run, "--osm", osm)


@case
def street_map_of_another_place(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    (place.capture / "town.osm").write_text(osm_xml())
    return on_map(place, place.capture / "town.osm")


@case
def run_folder_of_another_capture(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    assert main(place.ingest()) == 0
    other = Place(place.capture.parent / "other")
    other.edit(lambda document: document["frames"].pop())
    return place.command("ingest", other.capture, place.run)


@case
def run_folder_with_other_files(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.run.mkdir()
    (place.run / "holiday.jpg").write_bytes(b"")
    return place.command("run", place.capture, "--out", place.run)


@case
def run_folder_that_is_a_file(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.run.write_text("")
    return place.command("run", place.capture, "--out", place.run)


@case
def corrupt_capture_of_a_run(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    assert main(place.ingest()) == 0
    (place.run / "capture.json").write_text("{}")
    return place.command("partition", place.run)


@case
def newer_capture_of_a_run(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    assert main(place.ingest()) == 0
    _replace_format(place.run / "capture.json", "blocknerf.capture/9")
    return place.command("partition", place.run)


@case
def newer_city(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    _replace_format(place.run / "city.json", "blocknerf.city/9")
    return place.command("train", place.run)


@case
def unknown_block(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    return place.command("train", place.run, "--block", "b999")


@case
def frame_index_out_of_range(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    file = place.blocks()[0] / "frames.json"
    members = json.loads(file.read_text())
    members["frames"][0]["index"] = FRAMES
    file.write_text(json.dumps(members))
    return place.command("train", place.run)


@case
def corrupt_training_checkpoint(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_training_state(place, b"\x00" * 20)


@case
def newer_training_checkpoint(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_training_state(place, _weights(place, format="blocknerf.training/9"))


@case
def corrupt_field(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_fields(place, b"\x00" * 20)


@case
def newer_field(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_fields(place, _weights(place, format="blocknerf.field/9"))


@case
def foreign_field(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    return with_fields(place, _weights(place))


@case
def untrained_run(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    return place.command("render", place.run)


@case
def unreadable_trajectory(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    path = place.capture / "path.json"
    path.write_text("{")
    return place.command("render", place.run, "--trajectory", path)


@case
def unknown_keyframe(place: Place, _: pytest.MonkeyPatch) -> list[str]:
    place.partitioned()
    return place.command("render", place.run, "--keyframes", "images/0.png", "images/99.png")


@case
def full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    return place.ingest()


def with_training_state(place: Place, content: bytes) -> list[str]:
    """Write the training checkpoint of the first block, and return the command to train."""
    place.partitioned()
    state = place.blocks()[0] / "checkpoint" / "state.safetensors"
    state.parent.mkdir()
    state.write_bytes(content)
    return place.command("train", place.run)


def with_fields(place: Place, content: bytes) -> list[str]:
    """Write the field of every block, and return the command to render."""
    place.partitioned()
    for block in place.blocks():
        (block / "field.safetensors").write_bytes(content)
    return place.command("render", place.run)


def _weights(place: Place, **metadata: str) -> bytes:
    file = place.capture / "weights.safetensors"
    save_file({"table": np.zeros(4, np.float32)}, file, metadata=metadata)
    return file.read_bytes()


def _replace_format(path: Path, name: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": name}))


def _tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _golden() -> dict[str, str]:
    lines = GOLDEN.read_text().splitlines() if GOLDEN.exists() else []
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_prints_one_line(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    update_golden: bool,
) -> None:
    place = Place(tmp_path)
    arguments = CASES[name](place, monkeypatch)
    before = _tree(tmp_path)
    capfd.readouterr()
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert _tree(tmp_path) == before
    prefix = "blocknerf: error: "
    assert error.startswith(prefix)
    assert error.count("\n") == 1
    assert error.endswith("\n")
    message = re.sub(re.escape(str(tmp_path)) + r"/?", "", error.strip().removeprefix(prefix))
    if update_golden:
        lines = _golden() | {name: message}
        GOLDEN.write_text("".join(f"{key}: {lines[key]}\n" for key in sorted(lines) if key in CASES))
    assert message == _golden()[name]


def test_every_case_has_a_reviewed_message() -> None:
    assert set(_golden()) == set(CASES)
