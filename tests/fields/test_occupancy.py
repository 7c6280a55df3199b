"""The grid of what is empty: it keeps what is there, drops what is not, and survives the disk."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.occupancy import EMPTY, OccupancyGrid, extract_occupancy, load_occupancy, save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.rendering.protocol import Occupancy

MakeSpec = Callable[..., FieldSpec]
RESOLUTION = 32


class Analytic(BlockField):
    """A block whose density is a given function of position relative to its centre, in half extents."""

    def __init__(self, spec: FieldSpec, density: Callable[[Tensor], Tensor], proposed: bool = False) -> None:
        super().__init__(spec)
        self.function, self.proposed = density, proposed

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        value = self.function((points - self.origin) / self.spec.half_extent)
        return (torch.zeros_like(value) if self.proposed else value), points

    @property
    def proposal_densities(self) -> Sequence:
        """The same density where the proposals are said to know of it, else nothing."""
        return [lambda points, footprints: self.density_of_proposal(points)]

    def density_of_proposal(self, points: Tensor) -> Tensor:
        value = self.function((points - self.origin) / self.spec.half_extent)
        return value if self.proposed else torch.zeros_like(value)


def ball(center: tuple[float, float, float], radius: float, density: float = 10.0) -> Callable[[Tensor], Tensor]:
    return lambda points: density * ((points - torch.tensor(center)).norm(dim=-1) < radius)


def sphere_points(center: tuple[float, float, float], radius: float, spec: FieldSpec) -> Tensor:
    """World points that fill a ball given in half extents."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=-1)
    offsets = torch.tensor(center) + radius * torch.rand(4000, 1, generator=generator) ** (1 / 3) * directions
    return torch.tensor(spec.origin) + spec.half_extent * offsets


@pytest.mark.parametrize("proposed", [False, True])
def test_a_blob_is_kept_and_the_rest_dropped(tiny_spec: MakeSpec, proposed: bool) -> None:
    spec = tiny_spec()
    grid = extract_occupancy(Analytic(spec, ball((0.3, -0.2, 0.1), 0.4), proposed), RESOLUTION)
    assert isinstance(grid, Occupancy)
    assert grid.occupied(sphere_points((0.3, -0.2, 0.1), 0.4, spec)).all()
    # A cell is 1/8 wide, and what is found is widened by one: beyond two cells nothing may be left.
    outside = sphere_points((0.0, 0.0, 0.0), 3.0, spec)
    offsets = (outside - torch.tensor(spec.origin)) / spec.half_extent - torch.tensor([0.3, -0.2, 0.1])
    assert not grid.occupied(outside[offsets.norm(dim=-1) > 0.4 + 2.1 * 0.125 * 3**0.5]).any()
    assert grid.share < 0.03


def test_a_blob_far_outside_the_block_is_kept(tiny_spec: MakeSpec) -> None:
    spec = tiny_spec()
    center, radius = (0.0, 8.0, 0.0), 3.0
    grid = extract_occupancy(Analytic(spec, ball(center, radius, density=0.5)), RESOLUTION)
    assert grid.occupied(sphere_points(center, radius, spec)).all()
    assert not grid.occupied(sphere_points((0.0, -8.0, 0.0), radius, spec)).any()


@pytest.mark.parametrize(("factor", "kept"), [(0.9, False), (1.1, True)])
def test_what_would_stop_too_little_light_is_empty(tiny_spec: MakeSpec, factor: float, kept: bool) -> None:
    spec = tiny_spec()
    crossing = 4.0 * spec.half_extent / RESOLUTION
    fog = Analytic(spec, lambda points: factor * EMPTY / crossing * (points.abs().amax(-1) < 1.0))
    assert grid_at_center(extract_occupancy(fog, RESOLUTION)) == kept


def test_cells_are_longer_outside_the_block(tiny_spec: MakeSpec) -> None:
    """Fog too thin to matter inside, where it would stop half of what counts, matters in the long cells far out."""
    spec = tiny_spec()
    thin = 0.5 * EMPTY / (4.0 * spec.half_extent / RESOLUTION)
    shell = Analytic(spec, lambda points: thin * ((points.abs().amax(-1) > 3.0) & (points.abs().amax(-1) < 6.0)))
    grid = extract_occupancy(shell, RESOLUTION)
    assert grid.occupied(grid.origin + torch.tensor([[4.0 * spec.half_extent, 0.0, 0.0]])).all()
    assert not grid_at_center(grid)


def grid_at_center(grid: OccupancyGrid) -> bool:
    return bool(grid.occupied(grid.origin[None])[0])


def test_one_seed_gives_one_grid(tiny_spec: MakeSpec) -> None:
    thin = Analytic(tiny_spec(), ball((0.0, 0.0, 0.0), 0.04))
    first, again = (extract_occupancy(thin, RESOLUTION, seed=3).cells for _ in range(2))
    assert torch.equal(first, again)


def test_every_point_has_a_cell(tiny_spec: MakeSpec) -> None:
    grid = extract_occupancy(Analytic(tiny_spec(), lambda points: torch.ones(len(points))), 8)
    assert grid.share == 1.0
    for scale in (0.0, 1.0, 1e6, 1e12):
        corners = scale * torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, -1.0, 0.0]])
        assert grid.occupied(corners).all()
    assert grid.occupied(torch.zeros(2, 3, 4, 3)).shape == (2, 3, 4)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "occupancy.safetensors"
    save_occupancy(random_grid(), path)
    return path


def random_grid() -> OccupancyGrid:
    cells = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.1
    return OccupancyGrid(cells, (10.0, -20.0, 2.0), 5.0)


def test_a_grid_survives_the_disk(saved: Path) -> None:
    grid, loaded = random_grid(), load_occupancy(saved)
    assert torch.equal(loaded.cells, grid.cells)
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * 20.0
    assert torch.equal(loaded.occupied(points), grid.occupied(points))
    assert saved.stat().st_size < 16**3 / 8 + 400


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_occupancy(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith("; train the block again")
    return message


def test_missing_file(tmp_path: Path) -> None:
    refusal(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    assert "not a readable occupancy grid" in refusal(saved)


def test_another_format(saved: Path) -> None:
    save_file(load_file(saved), saved, metadata={"format": "blocknerf.occupancy/2"})
    assert "format 'blocknerf.occupancy/2' is not 'blocknerf.occupancy/1'" in refusal(saved)


@pytest.mark.parametrize(
    "facts",
    ["{", "[]", "{}", '{"resolution": 8}', '{"resolution": 32, "origin": [0, 0, 0], "half_extent": 5.0}',
     '{"resolution": 16, "origin": null, "half_extent": 5.0}'],
)  # fmt: skip
def test_broken_facts(saved: Path, facts: str) -> None:
    save_file(load_file(saved), saved, metadata={"format": "blocknerf.occupancy/1", "grid": facts})
    refusal(saved)


def test_cells_of_another_kind(saved: Path) -> None:
    facts = json.dumps({"resolution": 16, "origin": [0.0, 0.0, 0.0], "half_extent": 5.0})
    save_file({"cells": torch.zeros(512)}, saved, metadata={"format": "blocknerf.occupancy/1", "grid": facts})
    refusal(saved)
