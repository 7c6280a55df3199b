"""Probing a field for what is empty: it keeps what is there and drops what is not."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.occupancy import OccupancyGrid
from blocknerf.fields.occupancy_extraction import MAX_EMPTY_ALPHA, extract_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.kernels.contraction import contract_to_unit_cube

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
    def proposal_density_fns(self) -> Sequence:
        """The same density where the proposals are said to know of it, else nothing."""
        return [lambda points, footprints: self.density_of_proposal(points)]

    def density_of_proposal(self, points: Tensor) -> Tensor:
        value = self.function((points - self.origin) / self.spec.half_extent)
        return value if self.proposed else torch.zeros_like(value)


def occupied(grid: OccupancyGrid, points: Tensor) -> Tensor:
    """Whether points in the world lie in occupied cells."""
    side = len(grid.binaries)
    cube, _ = contract_to_unit_cube(points, torch.zeros(len(points)), grid.origin, grid.half_extent)
    x, y, z = (cube * side).long().clamp(0, side - 1).unbind(-1)
    return grid.binaries[x, y, z]


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
    assert occupied(grid, sphere_points((0.3, -0.2, 0.1), 0.4, spec)).all()
    # A cell is 1/8 wide: beyond its diagonal nothing may be left.
    outside = sphere_points((0.0, 0.0, 0.0), 3.0, spec)
    offsets = (outside - torch.tensor(spec.origin)) / spec.half_extent - torch.tensor([0.3, -0.2, 0.1])
    assert not occupied(grid, outside[offsets.norm(dim=-1) > 0.4 + 1.01 * 0.125 * 3**0.5]).any()
    assert grid.occupied_fraction < 0.02


def test_a_blob_far_outside_the_block_is_kept(tiny_spec: MakeSpec) -> None:
    spec = tiny_spec()
    center, radius = (0.0, 8.0, 0.0), 3.0
    grid = extract_occupancy(Analytic(spec, ball(center, radius, density=0.5)), RESOLUTION)
    # Its skin may graze a cell between the points that are looked at.
    assert occupied(grid, sphere_points(center, 0.9 * radius, spec)).all()
    assert not occupied(grid, sphere_points((0.0, -8.0, 0.0), radius, spec)).any()


@pytest.mark.parametrize(("factor", "kept"), [(0.9, False), (1.1, True)])
def test_what_would_stop_too_little_light_is_empty(tiny_spec: MakeSpec, factor: float, kept: bool) -> None:
    spec = tiny_spec()
    crossing = 4.0 * spec.half_extent / RESOLUTION
    fog = Analytic(spec, lambda points: factor * MAX_EMPTY_ALPHA / crossing * (points.abs().amax(-1) < 1.0))
    assert grid_at_center(extract_occupancy(fog, RESOLUTION)) == kept


def test_cells_are_longer_outside_the_block(tiny_spec: MakeSpec) -> None:
    """Fog too thin to matter inside, where it would stop half of what counts, matters in the long cells far out."""
    spec = tiny_spec()
    thin = 0.5 * MAX_EMPTY_ALPHA / (4.0 * spec.half_extent / RESOLUTION)
    shell = Analytic(spec, lambda points: thin * ((points.abs().amax(-1) > 3.0) & (points.abs().amax(-1) < 6.0)))
    grid = extract_occupancy(shell, RESOLUTION)
    assert occupied(grid, torch.tensor(grid.origin) + torch.tensor([[4.0 * spec.half_extent, 0.0, 0.0]])).all()
    assert not grid_at_center(grid)


def grid_at_center(grid: OccupancyGrid) -> bool:
    return bool(occupied(grid, torch.tensor(grid.origin)[None])[0])


def test_what_touches_a_face_is_in_both_cells(tiny_spec: MakeSpec) -> None:
    """A sheet just where cells meet is found from both sides."""
    spec = tiny_spec()
    sheet = Analytic(spec, lambda points: 1e3 * (points[..., 0].abs() < 1e-3))
    cells = extract_occupancy(sheet, RESOLUTION).binaries
    assert cells[15:17].all()
    assert not cells[:15].any()
    assert not cells[17:].any()


def test_the_costly_density_is_asked_only_where_it_decides(tiny_spec: MakeSpec) -> None:
    asked: list[int] = []

    class Counting(Analytic):
        def density(self, points: Tensor, footprints: Tensor) -> tuple[Tensor, Tensor]:
            asked.append(len(points))
            return super().density(points, footprints)

    extract_occupancy(Counting(tiny_spec(), lambda points: torch.ones(points.shape[:-1]), proposed=True), 8)
    assert sum(asked) == 0


def test_a_field_full_of_fog_has_no_empty_cell(tiny_spec: MakeSpec) -> None:
    assert extract_occupancy(Analytic(tiny_spec(), lambda points: torch.ones(len(points))), 8).occupied_fraction == 1.0
