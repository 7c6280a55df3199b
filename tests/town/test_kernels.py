"""Closed-form intersections against signed distances, and the grid against a linear search."""

import numpy as np
import pytest

from blocknerf.town import raycaster
from blocknerf.town.shapes import NO_HIT, distance, enter
from blocknerf.town.solids import Kind, Solid, SolidArrays
from blocknerf.town.town import FAR, Town, pack_cars


@pytest.mark.parametrize("yaw", [0.0, 35.0])
@pytest.mark.parametrize("kind", list(Kind))
def test_rays_enter_solids_at_zero_signed_distance(kind: Kind, yaw: float) -> None:
    shape = Solid(
        kind=kind, center=(0.3, -0.2, 0.5), half_size=(1.4, 0.8, 0.6), taper=(0.7, 0.1), yaw=yaw, color=(1.0, 1.0, 1.0)
    )
    table, rng = SolidArrays.pack([shape]), np.random.default_rng(3)
    hits = 0
    for _ in range(30):
        origin = rng.normal(size=3)
        origin *= 5.0 / np.linalg.norm(origin)
        direction = rng.normal(size=3) * 0.5 - origin
        direction /= np.linalg.norm(direction)
        t = enter(table.kinds, table.values, 0, *origin, *direction)
        steps = [*np.arange(0.0, min(t, 10.0), 0.05)]
        gaps = [distance(table.kinds, table.values, 0, *(origin + s * direction))[0] for s in steps]
        assert min(gaps) > -1e-6
        if t < NO_HIT:
            hits += 1
            at_surface, inside = (
                distance(table.kinds, table.values, 0, *(origin + s * direction))[0] for s in (t, t + 1e-4)
            )
            assert abs(at_surface) < 1e-6
            assert inside < at_surface
    assert hits > 8


def test_normals_are_the_gradient_of_the_signed_distance() -> None:
    rng = np.random.default_rng(1)
    for kind in Kind:
        shape = Solid(
            kind=kind, center=(0.0, 0.0, 0.0), half_size=(1.4, 0.8, 0.6), taper=(0.7, 0.1), color=(1.0, 1.0, 1.0)
        )
        table = SolidArrays.pack([shape])
        for _ in range(10):
            direction = rng.normal(size=3)
            direction /= np.linalg.norm(direction)
            t = enter(table.kinds, table.values, 0, *(-4.0 * direction), *direction)
            point = (t - 4.0 + 1e-3) * direction
            _, *normal = distance(table.kinds, table.values, 0, *point)
            sides = [
                [distance(table.kinds, table.values, 0, *(point + sign * 1e-6 * axis))[0] for sign in (1, -1)]
                for axis in np.eye(3)
            ]
            np.testing.assert_allclose(normal, [(a - b) / 2e-6 for a, b in sides], atol=5e-3)


def test_the_grid_matches_a_linear_search(town: Town) -> None:
    rng, count = np.random.default_rng(5), 60
    origins = rng.uniform((-60.0, -4.0, 0.5), (60.0, 4.0, 12.0), (count, 3))
    directions = rng.normal(size=(count, 3)) * (1.0, 1.0, 0.4)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    depth, solids = np.empty(count), np.empty(count, np.int64)
    raycaster.intersect_rays(town.scene, pack_cars(()), origins, directions, FAR, depth, solids)
    scene = town.scene
    for origin, direction, result in zip(origins, directions, depth, strict=True):
        hits = [enter(scene.kinds, scene.values, k, *origin, *direction) for k in range(len(scene.kinds))]
        ground = -origin[2] / direction[2] if direction[2] < 0 else NO_HIT
        expected = min(*hits, ground)
        assert result == pytest.approx(expected) or (expected > FAR and np.isinf(result))
    assert np.isfinite(depth).mean() > 0.5
