"""The exposure of a place: that of the photographs around it, smooth, even in stops, and never out of their range."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.nearby_exposures import NEIGHBORS, NearbyExposures

LENS = Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0)


def taken_at(x: float, y: float, exposure: float | None, name: str = "f") -> Frame:
    pose = ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, 0.0))
    return Frame(
        name=name, image=name, intrinsics=LENS, camera_to_world=pose, segment="s", camera="c", exposure=exposure
    )


def street(exposures: list[float | None]) -> NearbyExposures | None:
    """Photographs a metre apart along x."""
    return NearbyExposures.of([taken_at(float(i), 0.0, exposure) for i, exposure in enumerate(exposures)])


def test_photographs_that_say_nothing_do_not_count() -> None:
    assert street([None, None]) is None
    some_known = street([None, 4.0, None])
    assert some_known is not None
    assert some_known.exposure_at(torch.tensor([9.0, 9.0, 9.0])) == pytest.approx(4.0)


def test_midway_is_the_mean_in_stops() -> None:
    around = street([2.0, 8.0])
    assert around is not None
    assert around.exposure_at(torch.tensor([0.5, 0.0, 0.0])) == pytest.approx(4.0)


def test_near_photographs_decide() -> None:
    around = street([1.0] * 40 + [16.0] * 40)
    assert around is not None
    assert around.exposure_at(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1.0, rel=0.01)
    assert around.exposure_at(torch.tensor([75.0, 0.0, 0.0])) == pytest.approx(16.0, rel=0.01)


def test_a_sudden_change_is_passed_smoothly() -> None:
    around = street([1.0] * 40 + [16.0] * 40)
    assert around is not None
    stops = [torch.tensor(around.exposure_at(torch.tensor([20.0 + 0.1 * i, 0.0, 0.0]))).log2() for i in range(400)]
    steps = [float(after - before) for before, after in itertools.pairwise(stops)]
    assert max(steps) < 0.1 * 4.0 / (NEIGHBORS / 2) * 1.5
    assert min(steps) > -0.02


@settings(deadline=None)
@given(
    some.lists(
        some.tuples(some.floats(-50, 50), some.floats(-50, 50), some.floats(1e-4, 1e4)), min_size=1, max_size=20
    ),
    some.floats(-1e3, 1e3),
)
def test_it_is_within_what_was_photographed(frames: list[tuple[float, float, float]], x: float) -> None:
    around = NearbyExposures.of([taken_at(*each, name=f"f{i}") for i, each in enumerate(frames)])
    assert around is not None
    shown = around.exposure_at(torch.tensor([x, 0.0, 0.0]))
    exposures = [exposure for _, _, exposure in frames]
    assert min(exposures) * 0.999 <= shown <= max(exposures) * 1.001
