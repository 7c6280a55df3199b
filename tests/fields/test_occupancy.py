"""Occupancy files: round trips, and one-line errors for damaged files."""

import json
from pathlib import Path

import pytest
import torch

from blocknerf.errors import CheckpointError
from blocknerf.fields.occupancy import FILE, OccupancyGrid, load_occupancy, save_occupancy
from tests.tensor_files import rewrite


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "occupancy.safetensors"
    save_occupancy(random_grid(), path)
    return path


def random_grid() -> OccupancyGrid:
    cells = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.1
    return OccupancyGrid(cells, (10.0, -20.0, 2.0), 5.0)


def test_a_grid_round_trips(saved: Path) -> None:
    grid, loaded = random_grid(), load_occupancy(saved)
    assert torch.equal(loaded.binaries, grid.binaries)
    assert (loaded.origin, loaded.half_extent) == (grid.origin, grid.half_extent)
    assert loaded.occupied_fraction == pytest.approx(float(grid.binaries.float().mean()))
    assert saved.stat().st_size < 16**3 / 8 + 600


def load_error(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_occupancy(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith("; restore the file, or move it away: the block renders without it, only more slowly")
    return message


def test_missing_file(tmp_path: Path) -> None:
    load_error(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(saved: Path, fraction: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    assert "not a readable occupancy grid" in load_error(saved)


def test_another_format(saved: Path) -> None:
    rewrite(FILE, saved, format="blocknerf.field/1")
    assert "format: 'blocknerf.field/1' is not blocknerf.occupancy/3" in load_error(saved)


@pytest.mark.parametrize(
    "header",
    ["{", "[]", "{}", '{"resolution": 8}', '{"resolution": 32, "origin": [0, 0, 0], "half_extent": 5.0}',
     '{"resolution": 16, "origin": null, "half_extent": 5.0}'],
)  # fmt: skip
def test_a_broken_header(saved: Path, header: str) -> None:
    rewrite(FILE, saved, grid=header)
    load_error(saved)


def test_cells_of_another_dtype(saved: Path) -> None:
    header = json.dumps({"resolution": 16, "origin": [0.0, 0.0, 0.0], "half_extent": 5.0})
    rewrite(FILE, saved, {"binaries": torch.zeros(512)}, grid=header)
    load_error(saved)
