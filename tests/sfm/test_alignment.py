"""Alignment with GPS: exact without noise, and unharmed by outliers and bad altitudes."""

import numpy as np
import pytest

from blocknerf.sfm.alignment import Alignment, align_to_gps, fit_level_similarity, fit_similarity
from tests.sfm.scenes import SCALE, TILT, flight, street, to_model

UP = TILT @ np.array([0.0, 0.0, 1.0])


def align(centers: np.ndarray, gps: np.ndarray, up: np.ndarray = UP) -> Alignment | None:
    return align_to_gps(centers, gps, np.full(len(gps), 5.0), up)


def apply(transform: object, points: np.ndarray) -> np.ndarray:
    matrix = np.array(transform)
    return points @ matrix[:, :3].T + matrix[:, 3]


@pytest.mark.parametrize("world", [street(), flight()], ids=["street", "flight"])
def test_exact_positions_give_the_exact_world(world: np.ndarray) -> None:
    alignment = align(to_model(world)[:, :, 3], world[:, :, 3])
    assert alignment is not None
    assert np.abs(apply(alignment.transform, to_model(world)[:, :, 3]) - world[:, :, 3]).max() < 1e-6
    assert alignment.inliers.all()
    assert alignment.rms < 1e-6


def test_outliers_are_found_and_have_no_influence() -> None:
    world, generator = street(), np.random.default_rng(3)
    gps = world[:, :, 3] + generator.normal(0.0, [2.0, 2.0, 4.0], (30, 3))
    gps[[4, 11, 20, 28]] += [300.0, -200.0, 80.0]
    alignment = align(to_model(world)[:, :, 3], gps)
    assert alignment is not None
    assert not alignment.inliers[[4, 11, 20, 28]].any()
    assert alignment.inliers.sum() >= 24
    assert np.cbrt(np.linalg.det(np.array(alignment.transform)[:, :3])) == pytest.approx(1.0 / SCALE, rel=0.03)
    assert np.linalg.norm(apply(alignment.transform, to_model(world)[:, :, 3]) - world[:, :, 3], axis=1).max() < 6.0


def test_the_error_of_the_receiver_keeps_positions_of_a_few_photos() -> None:
    """Five of six positions fit a world of half the size by chance; the sixth is off by less than the receiver may."""
    centers = np.arange(6.0)[:, None] * [6.0, 1.0, 0.0]
    gps = 0.5 * centers
    gps[5] = 0.8 * centers[5]
    for error, scale in ((5.0, 0.714), (0.02, 0.5)):
        alignment = align_to_gps(centers, gps, np.full(6, error), np.array([0.0, 0.0, 1.0]))
        assert alignment is not None
        assert np.cbrt(np.linalg.det(np.array(alignment.transform)[:, :3])) == pytest.approx(scale, abs=1e-3)


def test_altitudes_that_drift_do_not_tilt_a_street() -> None:
    world = street()
    gps = world[:, :, 3] + np.random.default_rng(4).normal(0.0, 3.0, (30, 3))
    gps[:, 2] += 0.15 * world[:, 0, 3] + 0.5 * world[:, 1, 3]
    alignment = align(to_model(world)[:, :, 3], gps)
    assert alignment is not None
    up = np.array(alignment.transform)[:, :3] @ UP
    assert up[2] / np.linalg.norm(up) == pytest.approx(1.0, abs=1e-9)


def test_gps_overrules_cameras_that_are_wrong_about_up() -> None:
    world, wrong = flight(), TILT @ np.array([1.0, 0.0, 0.0])
    alignment = align(to_model(world)[:, :, 3], world[:, :, 3], wrong)
    assert alignment is not None
    assert alignment.rms < 1e-6


def test_positions_that_determine_nothing_are_refused() -> None:
    world = street()
    centers = to_model(world)[:, :, 3]
    assert align(centers[:2], world[:2, :, 3]) is None
    assert align(centers, np.zeros((30, 3))) is None
    assert align(np.repeat(centers[:1], 30, 0), world[:, :, 3]) is None


def test_a_straight_line_is_aligned_by_the_cameras_up() -> None:
    line = np.linspace(0.0, 1.0, 10)[:, None] * [30.0, 40.0, 0.0]
    assert fit_similarity(line, line) is None
    matrix = fit_level_similarity(line, line)
    assert matrix is not None
    assert np.abs(matrix - np.eye(4)[:3]).max() < 1e-12
