"""Fuzz target: a reader with a valid file, and functions that create small valid files."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.manifest import City, read_city, write_city
from tests.fuzzing.mutations import encoded, mutated_bytes, mutated_json

WIDTH, HEIGHT = 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A reader and a valid file for it."""

    path: Path
    read: Callable[[], object]
    """Reads the file and uses its content like the next job."""
    contents: st.SearchStrategy[bytes]
    """Strategy for mutations of the valid file."""
    sealed: bool = False
    """Whether the file has a digest; then `read` returns a value that must equal that of the valid file."""
    source: Path | None = None
    """The folder to read, if the file is one of many in it; a message may name this folder instead."""


def json_target(path: Path, read: Callable[[], object]) -> Target:
    """Return the target of an existing JSON file."""
    content = path.read_bytes()
    structure = mutated_json(json.loads(content)).flatmap(encoded)
    return Target(path=path, read=read, contents=structure | structure | mutated_bytes(content))


def small_capture(folder: Path) -> Capture:
    """Return a capture with four frames of one segment, without image files."""
    intrinsics = Intrinsics(width=WIDTH, height=HEIGHT, fx=10.0, fy=11.0, cx=6.0, cy=4.0)
    frames = [
        Frame(
            name=f"{i}.png", image=f"{i}.png", intrinsics=intrinsics, segment="a", camera="front", timestamp=float(i),
            camera_to_world=((1.0, 0.0, 0.0, float(i)), (0.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.5)), exposure=0.1,
        )
        for i in range(4)
    ]  # fmt: skip
    return Capture(
        image_dir=folder / "images", frames=tuple(frames), is_metric=True, source="a test", sparse_points="points.ply"
    )


def use_capture(capture: Capture, folder: Path) -> None:
    """Use a capture like later jobs: check its cameras, and write and read it."""
    cameras = capture.cameras()
    for values in (cameras.camera_to_world, cameras.intrinsics, cameras.distortion):
        assert values.isfinite().all()
    assert (cameras.intrinsics[:, :2] > 0).all()
    assert capture.extent > 0
    copy = folder / "copy" / "capture.json"
    write_capture(capture, copy)
    assert read_capture(copy) == capture


def use_city(city: City, folder: Path) -> None:
    """Use a city like later jobs: check its blocks and digest, and write and read it."""
    assert torch.tensor([(*block.origin, block.radius) for block in city.blocks]).isfinite().all()
    assert all(torch.tensor(block.radius) > 0 for block in city.blocks)
    assert city.block(city.blocks[0].name)
    assert city.digest
    assert not city.is_test_frame(0)
    copy = folder / "copy" / "city.json"
    write_city(city, copy)
    assert read_city(copy) == city
