"""A reader with a valid file for it, and the small things of which such files are made."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as some

from blocknerf.capture.capture import Capture, read_capture, write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.manifest import City, read_city, write_city
from tests.fuzzing.mutations import changed_bytes, changed_json, encoded

WIDTH, HEIGHT = 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A reader, and a valid file for it."""

    path: Path
    read: Callable[[], object]
    """Reads the file and uses what it holds, as the next job would."""
    contents: some.SearchStrategy[bytes]
    """Files that are nearly the valid one."""
    sealed: bool = False
    """Whether the file carries a digest: then `read` gives what must equal that of the valid file."""


def json_subject(path: Path, read: Callable[[], object]) -> Subject:
    """A reader of a JSON file that lies there."""
    content = path.read_bytes()
    structure = changed_json(json.loads(content)).flatmap(encoded)
    return Subject(path=path, read=read, contents=structure | structure | changed_bytes(content))


def small_capture(folder: Path) -> Capture:
    """Four frames of one drive; their images are not there."""
    lens = Intrinsics(width=WIDTH, height=HEIGHT, fx=10.0, fy=11.0, cx=6.0, cy=4.0)
    frames = [
        Frame(
            name=f"{i}.png", image=f"{i}.png", intrinsics=lens, segment="drive", camera="front", timestamp=float(i),
            camera_to_world=((1.0, 0.0, 0.0, float(i)), (0.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.5)), exposure=0.1,
        )
        for i in range(4)
    ]  # fmt: skip
    return Capture(
        image_dir=folder / "images", frames=tuple(frames), is_metric=True, source="a test", sparse_points="points.ply"
    )


def use_capture(capture: Capture, folder: Path) -> None:
    """What later jobs ask of a capture: finite cameras, and a file that holds all of it."""
    cameras = capture.cameras()
    for numbers in (cameras.camera_to_world, cameras.intrinsics, cameras.distortion):
        assert numbers.isfinite().all()
    assert (cameras.intrinsics[:, :2] > 0).all()
    assert capture.extent > 0
    again = folder / "again" / "capture.json"
    write_capture(capture, again)
    assert read_capture(again) == capture


def use_city(city: City, folder: Path) -> None:
    """What later jobs ask of a city: finite blocks, a digest, and a file that holds all of it."""
    assert torch.tensor([(*block.origin, block.radius) for block in city.blocks]).isfinite().all()
    assert all(torch.tensor(block.radius) > 0 for block in city.blocks)
    assert city.block(city.blocks[0].name)
    assert city.digest
    assert not city.is_test_frame(0)
    again = folder / "again" / "city.json"
    write_city(city, again)
    assert read_city(again) == city
