"""Trajectory files: round trips, and errors for invalid files."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blocknerf.cameras import look_at
from blocknerf.errors import RunError
from blocknerf.similarity import chain
from blocknerf.trajectory.trajectory import Trajectory
from blocknerf.trajectory.trajectory_file import (
    read_dataparser_transforms,
    read_trajectory,
    trajectory_to_json,
    write_camera_path,
    write_trajectory,
)


@pytest.fixture
def trajectory() -> Trajectory:
    eyes = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.5, 1.25], [2.0, 1.0, 1.5]])
    poses = look_at(eyes, torch.tensor([[5.0, 9.0, 0.0]]).expand(3, 3))
    return Trajectory(camera_to_world=poses, focals=torch.tensor([80.0, 90.0, 100.0]), width=96, height=54, fps=12.0)


def test_trajectory_json_round_trip_is_exact(trajectory: Trajectory, tmp_path: Path) -> None:
    write_trajectory(trajectory, tmp_path / "trajectory.json")
    restored = read_trajectory(tmp_path / "trajectory.json")
    assert torch.equal(restored.camera_to_world, trajectory.camera_to_world)
    assert torch.equal(restored.focals, trajectory.focals)
    assert (restored.width, restored.height, restored.fps, restored.seconds) == (96, 54, 12.0, 0.25)
    assert trajectory_to_json(restored) == (tmp_path / "trajectory.json").read_text()


def test_camera_path_round_trip(trajectory: Trajectory, tmp_path: Path) -> None:
    write_camera_path(trajectory, tmp_path / "path.json")
    restored = read_trajectory(tmp_path / "path.json")
    assert torch.allclose(restored.camera_to_world, trajectory.camera_to_world, atol=1e-6)
    assert torch.allclose(restored.focals, trajectory.focals, rtol=1e-6)
    assert (restored.width, restored.height, restored.fps) == (96, 54, 12.0)


def test_camera_path_in_the_format_of_nerfstudio(tmp_path: Path) -> None:
    """A camera at (1, 2, 3) looks along +y with z up (OpenGL axes), with a vertical field of view of 90 degrees."""
    matrix = [1, 0, 0, 1, 0, 0, -1, 2, 0, 1, 0, 3, 0, 0, 0, 1]
    view = {"camera_to_world": matrix, "fov": 90, "aspect": 2.0}
    document = {"camera_type": "perspective", "render_height": 100, "render_width": 200, "seconds": 2.0}
    (tmp_path / "path.json").write_text(json.dumps({**document, "keyframes": [], "camera_path": [view] * 4}))
    trajectory = read_trajectory(tmp_path / "path.json")
    expected = look_at(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 3.0]]))
    assert torch.allclose(trajectory.camera_to_world, expected.expand(4, 3, 4), atol=1e-6)
    assert trajectory.focals.tolist() == pytest.approx([50.0] * 4)
    assert trajectory.fps == pytest.approx(2.0)
    assert trajectory.cameras.generate_rays(0).directions[0, 0, 1] > 0


def test_resizing_keeps_the_vertical_field_of_view(trajectory: Trajectory) -> None:
    small = trajectory.resized(48, 27)
    assert torch.allclose(small.focals, trajectory.focals / 2)
    assert math.isclose(float(small.cameras.intrinsics[0, 2]), 24.0)


def _invalid_document(change: Callable[[dict], object]) -> dict:
    frame = {"camera_to_world": [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], "focal": 9.0}
    document = {"format": "blocknerf.trajectory/1", "fps": 24.0, "width": 8, "height": 6, "frames": [frame]}
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("fps"), ": fps is missing; add it, or write the file again"),
        (lambda d: d.update(extra=1), ": extra is an unknown key"),
        (lambda d: d.update(format="blocknerf.trajectory/2"), "newer than this version"),
        (lambda d: d.update(format="other"), "is not blocknerf.trajectory/1; write the file again"),
        (lambda d: d.update(frames=[]), "frames is .*, not a list of length >= 1"),
        (lambda d: d.update(width=0), "width is 0, not a number >= 1.0"),
        (lambda d: d.update(width=20_000), "width is 20000, not a number <= 8192.0"),
        (lambda d: d.update(height=10**9), "height is 1000000000, not a number <= 8192.0"),
        (
            lambda d: d.update(width=8192, height=8192),
            "its size is 8192x8192; .*at most 8192 pixels per side and 35651584",
        ),
        (lambda d: d.update(fps=1e300), "fps is 1e\\+300, not a number <= 9.2"),
        (lambda d: d.update(fps=1e9), "fps is 1000000000.0; use 0.01 to 1000"),
        (lambda d: d.update(frames=d["frames"][:1] * 100_001), "frames is .*, not a list of length <= 100000"),
        (lambda d: d.update(width=True), "width is True, not a number"),
        (lambda d: d.update(fps=0.0), "fps is 0.0; use 0.01 to 1000"),
        (lambda d: d.update(fps="24"), "fps is '24', not a number"),
        (lambda d: d["frames"][0].pop("focal"), r"frames\[0\].focal is missing"),
        (lambda d: d["frames"][0].update(focal=-1.0), "frame 0: focal is -1.0"),
        (lambda d: d["frames"][0].update(focal=float("nan")), "focal is not a finite number"),
        (
            lambda d: d["frames"][0].update(camera_to_world=[[1.0] * 4] * 2),
            "camera_to_world is .*, not a list of",
        ),
        (lambda d: d["frames"][0].update(camera_to_world=[[2.0] * 4] * 3), "frame 0: camera_to_world is not a finite"),
    ],
)
def test_invalid_file_is_rejected_with_one_line(change: Callable[[dict], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(_invalid_document(change)))
    with pytest.raises(RunError, match=message) as caught:
        read_trajectory(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


VIEW = {"camera_to_world": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1], "fov": 60.0}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"camera_type": "equirectangular"}, "'equirectangular' is not supported"),
        ({"render_width": 20_000, "render_height": 20_000}, "render_width is 20000, not a number <= 8192.0"),
        ({"render_width": 8192, "render_height": 8192}, "its size is 8192x8192"),
        ({"seconds": 1e9}, "fps is 1e-09; use 0.01"),
        ({"fps": 1e12}, "fps is 1000000000000.0; use"),
        ({"camera_path": [VIEW] * 100_001}, "camera_path is .*, not a list of length <= 100000"),
        ({"render_width": None}, "render_width is None, not a number"),
        ({"camera_path": [{"camera_to_world": [1.0] * 12, "fov": 60}]}, "is not 16 numbers, row by row"),
        ({"camera_path": [{"camera_to_world": [1.0] * 16, "fov": 180}]}, "fov is 180, not a number < 180.0"),
        ({"camera_path": [7]}, r"camera_path\[0\] is 7, not an object"),
        ({"camera_path": []}, "camera_path is .*, not a list of length >= 1"),
        ({"seconds": 0}, "seconds is 0, not a number >= 1"),
    ],
)
def test_invalid_camera_path_is_rejected(keys: dict, message: str, tmp_path: Path) -> None:
    document = {"render_width": 8, "render_height": 6, "camera_path": [VIEW]}
    (tmp_path / "path.json").write_text(json.dumps(document | keys))
    with pytest.raises(RunError, match=message):
        read_trajectory(tmp_path / "path.json")


def test_too_large_file_is_rejected_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "path.json").open("wb") as stream:
        stream.truncate(900 << 20)
    with pytest.raises(RunError, match=r"path\.json: this trajectory file is larger than the limit of 128 MiB"):
        read_trajectory(tmp_path / "path.json")


def test_fifo_is_rejected_immediately(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "path.json")
    with pytest.raises(RunError, match=r"path\.json: this trajectory file cannot be read \(it is not a regular file\)"):
        read_trajectory(tmp_path / "path.json")


def camera_path(tmp_path: Path, matrix: object) -> Path:
    view = {"camera_to_world": matrix, "fov": 50.0}
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"render_width": 96.0, "render_height": 54.0, "camera_path": [view]}))
    return path


def test_nested_rows_are_read_like_sixteen_numbers(tmp_path: Path) -> None:
    rows = [[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    nested = read_trajectory(camera_path(tmp_path, rows))
    flat = read_trajectory(camera_path(tmp_path, [number for row in rows for number in row]))
    assert torch.equal(nested.camera_to_world, flat.camera_to_world)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1], "is written column by column; transpose it"),
        ([1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 1, 7, 1, 0, 0, 1], "last row that is not 0 0 0 1"),
        ([2, 0, 0, 5, 0, 2, 0, 6, 0, 0, 2, 7, 0, 0, 0, 1], "has scale or shear"),
        ([[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]], "is not 16 numbers"),
        ([[1, 0, 0, 5], 3, 4, 5], "is not 16 numbers"),
        ([[1, 0, 0], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1, 1]], "is not 16 numbers"),
    ],
)
def test_matrices_that_are_no_pose_are_refused(tmp_path: Path, matrix: object, message: str) -> None:
    with pytest.raises(RunError, match=rf"path\.json: camera_path\[0\]\.camera_to_world: .*{message}"):
        read_trajectory(camera_path(tmp_path, matrix))


def test_a_path_of_the_source_is_moved_into_the_world_and_back(trajectory: Trajectory, tmp_path: Path) -> None:
    to_world = ((0.0, -2.0, 0.0, 5.0), (2.0, 0.0, 0.0, 6.0), (0.0, 0.0, 2.0, -7.0))
    write_camera_path(trajectory, tmp_path / "path.json", to_world)
    plain = read_trajectory(tmp_path / "path.json")
    assert not torch.allclose(plain.camera_to_world, trajectory.camera_to_world, atol=0.1)
    restored = read_trajectory(tmp_path / "path.json", to_world)
    assert torch.allclose(restored.camera_to_world, trajectory.camera_to_world, atol=1e-5)
    write_trajectory(trajectory, tmp_path / "own.json")
    assert torch.equal(read_trajectory(tmp_path / "own.json", to_world).camera_to_world, trajectory.camera_to_world)


def test_nerfstudio_s_recentering_is_undone(trajectory: Trajectory, tmp_path: Path) -> None:
    """nerfstudio multiplies poses by `transform`, then scales their positions."""
    transform, scale = [[0, 1, 0, -3], [-1, 0, 0, 4], [0, 0, 1, 0.5]], 0.04
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps({"transform": transform, "scale": scale}))
    forward = tuple(tuple(float(scale * number) for number in row) for row in transform)
    inverse = read_dataparser_transforms(tmp_path / "dataparser_transforms.json")
    identity = torch.tensor([*chain(inverse, forward)])
    assert torch.allclose(identity, torch.eye(4)[:3], atol=1e-6)
    write_camera_path(trajectory, tmp_path / "path.json", inverse)
    restored = read_trajectory(tmp_path / "path.json", inverse)
    assert torch.allclose(restored.camera_to_world, trajectory.camera_to_world, atol=1e-5)


def test_a_dataparser_that_cannot_be_inverted_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataparser_transforms.json"
    path.write_text(json.dumps({"transform": [[0, 0, 0, 0]] * 3, "scale": 1.0}))
    with pytest.raises(RunError, match="cannot be inverted"):
        read_dataparser_transforms(path)
