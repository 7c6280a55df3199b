"""What cameras see of the ground, and whether they look at one object."""

import math

import numpy as np
import pytest
import torch

from blocknerf.partition.capture_geometry import capture_geometry
from blocknerf.partition.ground_coverage import common_look_at, ground_cells, ground_height, look_at_points

AHEAD = 30 * 20 / 25
"""Half the width of ground that the test lens sees from 30 m up."""


def test_without_points_the_footprint_is_the_frusta_on_the_ground(flight) -> None:
    seen = ground_cells(capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [100.0, 0.0, 30.0]]))))
    assert float(seen[:, 0].min()) == pytest.approx(-AHEAD, abs=4.0)
    assert float(seen[:, 0].max()) == pytest.approx(100 + AHEAD, abs=4.0)
    assert float(seen[:, 1].abs().max()) == pytest.approx(30 * 15 / 25, abs=4.0)


def test_stray_points_do_not_widen_the_footprint(flight, with_points) -> None:
    ground = np.random.default_rng(0).uniform([0, 0, -0.1], [80, 60, 0.1], (4000, 3))
    stray = np.array([[4000.0, 0, 0], [0, -9000, 0], [40, 30, 700], [500, 500, 0]])
    eyes = torch.tensor([[20.0, 30.0, 30.0], [60.0, 30.0, 30.0]])
    seen = ground_cells(capture_geometry(flight(eyes, **with_points(np.concatenate([ground, stray])))))
    assert float(seen.min()) >= -1.0
    assert float(seen[:, 0].max()) <= 81.0
    assert float(seen[:, 1].max()) <= 61.0


def test_ground_height_is_that_of_the_points_or_zero_or_below(flight, with_points) -> None:
    eyes = torch.tensor([[0.0, 0.0, 30.0], [40.0, 0.0, 30.0]])
    points = np.full((50, 3), 7.0)
    assert ground_height(capture_geometry(flight(eyes, **with_points(points)))) == 7.0
    assert ground_height(capture_geometry(flight(eyes))) == 0.0
    assert ground_height(capture_geometry(flight(eyes, is_metric=False))) == pytest.approx(10.0)


def test_gaze_meets_the_ground_where_an_oblique_camera_looks(orbit) -> None:
    oblique = orbit(torch.tensor([[0.0, -20.0, 20.0], [20.0, 0.0, 20.0]]), torch.tensor([5.0, 5.0, 0.0]))
    assert torch.allclose(look_at_points(capture_geometry(oblique)), torch.tensor([[5.0, 5.0], [5.0, 5.0]]), atol=1e-3)


def test_the_gaze_of_a_level_camera_is_its_own_place(drive) -> None:
    known = capture_geometry(drive(torch.tensor([[0.0, 0.0], [1.0, 0.0]])))
    assert torch.equal(look_at_points(known), known.centers[:, :2])


def test_focus_is_the_object_in_the_middle(orbit, drive, flight) -> None:
    angle = torch.linspace(0, math.pi, 12)
    ring = torch.stack([5 * angle.cos(), 5 * angle.sin(), torch.full_like(angle, 2.0)], -1)
    target = torch.tensor([0.5, -0.5, 1.0])
    assert torch.allclose(common_look_at(capture_geometry(orbit(ring, target))), target, atol=1e-4)
    # Outward from the middle, straight along a street, down from the air: no object.
    assert common_look_at(capture_geometry(orbit(ring, target * 0 + torch.tensor([0.0, 0.0, 500.0])))) is None
    outward = torch.stack([angle.cos(), angle.sin(), 0 * angle], -1)
    assert common_look_at(capture_geometry(drive(outward[:, :2] * 30))) is None
    assert common_look_at(capture_geometry(drive(torch.tensor([[0.0, 0.0], [9.0, 0.0], [18.0, 0.0]])))) is None
    assert common_look_at(capture_geometry(flight(torch.tensor([[0.0, 0.0, 30.0], [40.0, 0.0, 30.0]])))) is None
