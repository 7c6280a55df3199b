"""LiDAR sweeps: formats, broken files, and the sweep of an image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.capture.lidar import LidarSweep, check_sweep, nearest_sweep, read_sweep
from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.errors import CaptureError
from tests.fuzzing.targets import small_capture

POINTS = np.array([[1.0, 2.0, 3.0], [-4.0, 5.5, 0.25]], np.float32)
IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))


def write_sweep(path: Path, positions: np.ndarray = POINTS) -> Path:
    """Write a sweep in the format of its suffix."""
    if path.suffix == ".ply":
        write_ply(PointCloud(positions=positions), path)
    else:
        columns = 2 if path.name.endswith(".pcd.bin") else 1
        np.column_stack([positions, np.full((len(positions), columns), 9.0)]).astype("<f4").tofile(path)
    return path


@pytest.mark.parametrize("name", ["a.ply", "a.bin", "a.pcd.bin"])
def test_formats(tmp_path: Path, name: str) -> None:
    path = write_sweep(tmp_path / name)
    check_sweep(path)
    assert np.array_equal(read_sweep(path).positions, POINTS)


@pytest.mark.parametrize("name", ["a.ply", "a.bin", "a.pcd.bin"])
def test_a_short_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write_sweep(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-3])
    for read in (read_sweep, check_sweep):
        with pytest.raises(CaptureError, match="cut short"):
            read(path)


@pytest.mark.parametrize("name", ["a.ply", "a.bin", "a.pcd.bin"])
def test_nan_is_refused(tmp_path: Path, name: str) -> None:
    path = write_sweep(tmp_path / name, np.array([[1.0, np.nan, 3.0]], np.float32))
    with pytest.raises(CaptureError, match="1 of 1 positions are not finite"):
        read_sweep(path)


@pytest.mark.parametrize("name", ["a.ply", "a.bin", "a.pcd.bin"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match="does not exist"):
        read_sweep(tmp_path / name)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"a\.laz: is not a LiDAR sweep in a supported format"):
        check_sweep(tmp_path / "a.laz")


@pytest.mark.parametrize(("time", "expected"), [(0.0, "0"), (0.06, "1"), (0.29, "2"), (0.31, None), (None, None)])
def test_nearest_sweep(time: float | None, expected: str | None) -> None:
    sweeps = [LidarSweep(path=str(i), timestamp=i / 10, sensor_to_world=IDENTITY) for i in range(3)]
    found = nearest_sweep(sweeps, time)
    assert (found.path if found else None) == expected


def test_the_sweep_of_a_frame_is_in_the_world(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a.bin")
    pose = ((0.0, -1.0, 0.0, 10.0), (1.0, 0.0, 0.0, 20.0), (0.0, 0.0, 1.0, 30.0))
    sweep = LidarSweep(path="a.bin", timestamp=1.05, sensor_to_world=pose)
    capture = replace(small_capture(tmp_path), points_dir=tmp_path, lidar_sweeps=(sweep,))
    cloud = capture.read_sweep(1)
    assert cloud is not None
    np.testing.assert_allclose(cloud.positions, [[8.0, 21.0, 33.0], [4.5, 16.0, 30.25]])
    assert capture.read_sweep(3) is None
