"""Extraction of an occupancy grid, and its file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blocknerf.errors import CheckpointError
from blocknerf.fields.block_field import BlockField, OccupancyGrid
from blocknerf.fields.occupancy import FILE, MAX_EMPTY_ALPHA, extract_occupancy, load_occupancy, save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.kernels.contraction import contract_to_unit_cube
from tests.tensor_files import rewrite

MakeSpec = Callable[..., FieldSpec]
RESOLUTION = 32


class AnalyticField(BlockField):
    """A block with an analytic density: a function of the position relative to its center, in half extents."""

    def __init__(self, spec: FieldSpec, density: Callable[[Tensor], Tensor], in_proposals: bool = False) -> None:
        super().__init__(spec)
        self.function, self.in_proposals = density, in_proposals

    def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
        value = self.function((points - self.origin) / self.spec.half_extent)
        return (torch.zeros_like(value) if self.in_proposals else value), points

    @property
    def proposal_density_fns(self) -> Sequence:
        """The density function, if it is in the proposals; else zero."""
        return [lambda points, footprints: self.proposal_density(points)]

    def proposal_density(self, points: Tensor) -> Tensor:
        value = self.function((points - self.origin) / self.spec.half_extent)
        return value if self.in_proposals else torch.zeros_like(value)


def occupied(grid: OccupancyGrid, points: Tensor) -> Tensor:
    """Return whether world points are in occupied cells."""
    side = len(grid.binaries)
    cube, _ = contract_to_unit_cube(points, torch.zeros(len(points)), grid.origin, grid.half_extent)
    x, y, z = (cube * side).long().clamp(0, side - 1).unbind(-1)
    return grid.binaries[x, y, z]


def ball(center: tuple[float, float, float], radius: float, density: float = 10.0) -> Callable[[Tensor], Tensor]:
    return lambda points: density * ((points - torch.tensor(center)).norm(dim=-1) < radius)


def sphere_points(center: tuple[float, float, float], radius: float, spec: FieldSpec) -> Tensor:
    """Return world points that fill a ball given in half extents."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=-1)
    offsets = torch.tensor(center) + radius * torch.rand(4000, 1, generator=generator) ** (1 / 3) * directions
    return torch.tensor(spec.origin) + spec.half_extent * offsets


@pytest.mark.parametrize("in_proposals", [False, True])
def test_a_ball_is_kept_and_the_rest_dropped(tiny_spec: MakeSpec, in_proposals: bool) -> None:
    spec = tiny_spec()
    grid = extract_occupancy(AnalyticField(spec, ball((0.3, -0.2, 0.1), 0.4), in_proposals), RESOLUTION)
    assert occupied(grid, sphere_points((0.3, -0.2, 0.1), 0.4, spec)).all()
    # A cell is 1/8 wide: farther away than its diagonal, all cells are empty.
    outside = sphere_points((0.0, 0.0, 0.0), 3.0, spec)
    offsets = (outside - torch.tensor(spec.origin)) / spec.half_extent - torch.tensor([0.3, -0.2, 0.1])
    assert not occupied(grid, outside[offsets.norm(dim=-1) > 0.4 + 1.01 * 0.125 * 3**0.5]).any()
    assert grid.occupied_fraction < 0.02


def test_a_ball_far_outside_the_block_is_kept(tiny_spec: MakeSpec) -> None:
    spec = tiny_spec()
    center, radius = (0.0, 8.0, 0.0), 3.0
    grid = extract_occupancy(AnalyticField(spec, ball(center, radius, density=0.5)), RESOLUTION)
    # Its surface may touch a cell between the lattice points.
    assert occupied(grid, sphere_points(center, 0.9 * radius, spec)).all()
    assert not occupied(grid, sphere_points((0.0, -8.0, 0.0), radius, spec)).any()


@pytest.mark.parametrize(("factor", "kept"), [(0.9, False), (1.1, True)])
def test_cells_with_little_alpha_are_empty(tiny_spec: MakeSpec, factor: float, kept: bool) -> None:
    spec = tiny_spec()
    crossing = 4.0 * spec.half_extent / RESOLUTION
    fog = AnalyticField(spec, lambda points: factor * MAX_EMPTY_ALPHA / crossing * (points.abs().amax(-1) < 1.0))
    assert grid_at_center(extract_occupancy(fog, RESOLUTION)) == kept


def test_cells_are_longer_outside_the_block(tiny_spec: MakeSpec) -> None:
    """Fog at half of the threshold inside the block is above it in the longer cells far outside."""
    spec = tiny_spec()
    thin = 0.5 * MAX_EMPTY_ALPHA / (4.0 * spec.half_extent / RESOLUTION)
    shell = AnalyticField(spec, lambda points: thin * ((points.abs().amax(-1) > 3.0) & (points.abs().amax(-1) < 6.0)))
    grid = extract_occupancy(shell, RESOLUTION)
    assert occupied(grid, torch.tensor(grid.origin) + torch.tensor([[4.0 * spec.half_extent, 0.0, 0.0]])).all()
    assert not grid_at_center(grid)


def grid_at_center(grid: OccupancyGrid) -> bool:
    return bool(occupied(grid, torch.tensor(grid.origin)[None])[0])


def test_density_on_a_face_is_in_both_cells(tiny_spec: MakeSpec) -> None:
    """A thin sheet on a face between cells is found in the cells of both sides."""
    spec = tiny_spec()
    sheet = AnalyticField(spec, lambda points: 1e3 * (points[..., 0].abs() < 1e-3))
    cells = extract_occupancy(sheet, RESOLUTION).binaries
    assert cells[15:17].all()
    assert not cells[:15].any()
    assert not cells[17:].any()


def test_the_main_field_is_evaluated_only_where_the_proposals_are_empty(tiny_spec: MakeSpec) -> None:
    evaluated: list[int] = []

    class Counting(AnalyticField):
        def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
            evaluated.append(len(points))
            return super().density(points, footprints)

    extract_occupancy(Counting(tiny_spec(), lambda points: torch.ones(points.shape[:-1]), in_proposals=True), 8)
    assert sum(evaluated) == 0


def test_fog_everywhere_leaves_no_empty_cell(tiny_spec: MakeSpec) -> None:
    assert (
        extract_occupancy(AnalyticField(tiny_spec(), lambda points: torch.ones(len(points))), 8).occupied_fraction
        == 1.0
    )


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
