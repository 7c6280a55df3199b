"""Search of the points in one view, against projection of all of them."""

import pytest
import torch

from blocknerf.cameras import CameraModel, Cameras, look_at
from blocknerf.view_frusta import PointCells, ViewFrusta


def cameras(focal: float) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    eyes, targets = torch.rand(2, 20, 3, generator=generator) * torch.tensor([900.0, 900.0, 20.0])
    return Cameras.pinhole(look_at(eyes, targets), focal=focal, width=80, height=60)


def near_view(cells: PointCells, frusta: ViewFrusta, index: int) -> torch.Tensor:
    """Return the points of the cells that may be in view."""
    return cells.order[cells.points_of(cells.in_view(frusta, index))]


@pytest.mark.parametrize("focal", [60.0, 300.0])
@pytest.mark.parametrize("model", CameraModel)
def test_all_points_in_view_are_near_it(model: CameraModel, focal: float) -> None:
    views = cameras(focal)
    views.model.fill_(int(model))
    points = torch.rand(30_000, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([1000.0, 1000.0, 20.0])
    cells, frusta = PointCells(points), ViewFrusta(views)
    counts = []
    for index in range(len(views)):
        near = near_view(cells, frusta, index)
        inside = views.project(points, index)[2].nonzero()[:, 0]
        assert bool(torch.isin(inside, near).all())
        counts.append(len(near))
    # A long lens looks at few of the points.
    assert sum(counts) < (0.7 if focal == 60.0 else 0.3) * len(points) * len(views)


@pytest.mark.parametrize("count", [1, 2, 1000])
@pytest.mark.parametrize("spread", [(0.0, 0.0, 0.0), (1e6, 0.0, 0.0), (1e4, 1e4, 0.0)])
def test_points_of_any_shape_are_found(count: int, spread: tuple[float, float, float]) -> None:
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(spread)
    views = Cameras.pinhole(look_at(torch.full((1, 3), -5.0), points[:1]), focal=50.0, width=80, height=60)
    inside = views.project(points, 0)[2].nonzero()[:, 0]
    assert len(inside) > 0
    assert bool(torch.isin(inside, near_view(PointCells(points), ViewFrusta(views), 0)).all())
