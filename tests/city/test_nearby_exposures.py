"""Exposure at a position: that of the images nearby, smooth, linear in stops, and within their range."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.nearby_exposures import NEIGHBORS, NearbyExposures

INTRINSICS = Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0)


def make_frame(x: float, y: float, exposure: float | None, name: str = "f") -> Frame:
    pose = ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, 0.0))
    return Frame(
        name=name, image=name, intrinsics=INTRINSICS, camera_to_world=pose, segment="s", camera="c", exposure=exposure
    )


def street(values: list[float | None]) -> NearbyExposures | None:
    """Return exposures of images one meter apart along x."""
    return NearbyExposures.of([make_frame(float(i), 0.0, exposure) for i, exposure in enumerate(values)])


def test_images_without_exposure_are_ignored() -> None:
    assert street([None, None]) is None
    exposures = street([None, 4.0, None])
    assert exposures is not None
    assert exposures.exposure_at(torch.tensor([9.0, 9.0, 9.0])) == pytest.approx(4.0)


def test_midpoint_is_the_mean_in_stops() -> None:
    exposures = street([2.0, 8.0])
    assert exposures is not None
    assert exposures.exposure_at(torch.tensor([0.5, 0.0, 0.0])) == pytest.approx(4.0)


def test_nearby_images_dominate() -> None:
    exposures = street([1.0] * 40 + [16.0] * 40)
    assert exposures is not None
    assert exposures.exposure_at(torch.tensor([5.0, 0.0, 0.0])) == pytest.approx(1.0, rel=0.01)
    assert exposures.exposure_at(torch.tensor([75.0, 0.0, 0.0])) == pytest.approx(16.0, rel=0.01)


def test_sudden_exposure_change_is_smoothed() -> None:
    exposures = street([1.0] * 40 + [16.0] * 40)
    assert exposures is not None
    stops = [torch.tensor(exposures.exposure_at(torch.tensor([20.0 + 0.1 * i, 0.0, 0.0]))).log2() for i in range(400)]
    steps = [float(after - before) for before, after in itertools.pairwise(stops)]
    assert max(steps) < 0.1 * 4.0 / (NEIGHBORS / 2) * 1.5
    assert min(steps) > -0.02


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1e-4, 1e4)), min_size=1, max_size=20),
    st.floats(-1e3, 1e3),
)
def test_exposure_is_within_the_range_of_the_images(frames: list[tuple[float, float, float]], x: float) -> None:
    exposures = NearbyExposures.of([make_frame(*frame, name=f"f{i}") for i, frame in enumerate(frames)])
    assert exposures is not None
    exposure = exposures.exposure_at(torch.tensor([x, 0.0, 0.0]))
    values = [exposure for _, _, exposure in frames]
    assert min(values) * 0.999 <= exposure <= max(values) * 1.001
