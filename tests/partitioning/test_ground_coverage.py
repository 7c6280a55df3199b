"""Ground seen by the cameras."""

import numpy as np
import pytest
import torch

from blocknerf.partitioning.capture_geometry import capture_geometry
from blocknerf.partitioning.ground_coverage import ground_cells, ground_height, look_at_points

HALF_VIEW_WIDTH = 30 * 20 / 25
"""Half the width of ground that the test camera sees from 30 m up."""


def test_without_points_ground_cells_are_from_frusta(flight) -> None:
    cells = ground_cells(capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [100.0, 0.0, 30.0]]))))
    assert float(cells[:, 0].min()) == pytest.approx(-HALF_VIEW_WIDTH, abs=4.0)
    assert float(cells[:, 0].max()) == pytest.approx(100 + HALF_VIEW_WIDTH, abs=4.0)
    assert float(cells[:, 1].abs().max()) == pytest.approx(30 * 15 / 25, abs=4.0)


def test_outlier_points_are_ignored(flight, with_points) -> None:
    ground = np.random.default_rng(0).uniform([0, 0, -0.1], [80, 60, 0.1], (4000, 3))
    outliers = np.array([[4000.0, 0, 0], [0, -9000, 0], [40, 30, 700], [500, 500, 0]])
    eyes = torch.tensor([[20.0, 30.0, 30.0], [60.0, 30.0, 30.0]])
    cells = ground_cells(capture_geometry(flight(eyes, **with_points(np.concatenate([ground, outliers])))))
    assert float(cells.min()) >= -1.0
    assert float(cells[:, 0].max()) <= 81.0
    assert float(cells[:, 1].max()) <= 61.0


def test_ground_height_with_and_without_points(flight, with_points) -> None:
    eyes = torch.tensor([[0.0, 0.0, 30.0], [40.0, 0.0, 30.0]])
    points = np.full((50, 3), 7.0)
    assert ground_height(capture_geometry(flight(eyes, **with_points(points)))) == 7.0
    assert ground_height(capture_geometry(flight(eyes))) == 0.0
    assert ground_height(capture_geometry(flight(eyes, is_metric=False))) == pytest.approx(10.0)


def test_look_at_points_of_oblique_cameras(orbit) -> None:
    oblique = orbit(torch.tensor([[0.0, -20.0, 20.0], [20.0, 0.0, 20.0]]), torch.tensor([5.0, 5.0, 0.0]))
    assert torch.allclose(look_at_points(capture_geometry(oblique)), torch.tensor([[5.0, 5.0], [5.0, 5.0]]), atol=1e-3)


def test_look_at_point_of_a_level_camera_is_its_position(drive) -> None:
    geometry = capture_geometry(drive(torch.tensor([[0.0, 0.0], [1.0, 0.0]])))
    assert torch.equal(look_at_points(geometry), geometry.centers[:, :2])
