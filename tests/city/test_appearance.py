"""Default appearance of the city, and the exposure of the images around a camera."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.city.appearance import (
    NEIGHBORS,
    AppearanceQuery,
    NearbyExposures,
    appearance_of,
    code_for_block,
    exposure_for_block,
    reference_segment,
)
from blocknerf.errors import RunError
from blocknerf.fields.spec import FieldSpec

INTRINSICS = Intrinsics(width=8, height=8, fx=8.0, fy=8.0, cx=4.0, cy=4.0)


def make_capture(segments: list[str], exposures: list[float | None]) -> Capture:
    frames = [
        Frame(
            name=f"f{i}",
            image=f"f{i}.png",
            intrinsics=INTRINSICS,
            camera_to_world=((1.0, 0.0, 0.0, float(i)), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
            segment=segment,
            camera="front",
            exposure=exposure,
        )
        for i, (segment, exposure) in enumerate(zip(segments, exposures, strict=True))
    ]
    return Capture(image_dir=Path(), frames=tuple(frames), is_metric=True, source="test")


CAPTURE = make_capture(["dusk", "dusk", "noon", "noon", "noon", "fog"], [4.0, 8.0, 0.1, None, 0.3, None])
"""f0 and f1 at dusk, f2 to f4 at noon, f5 in fog."""


@pytest.fixture
def field(box_scene):
    """A field trained on f1, f2 and f4 with the codes 1, 2 and 4."""

    class TrainedScene(box_scene):
        spec = FieldSpec(
            origin=(0.0, 0.0, 0.0),
            half_extent=1.0,
            near=0.1,
            far=9.0,
            frames=("f1", "f2", "f4"),
            exposure_reference=0.5,
        )

        appearance_codes = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 3)

        def mean_appearance_code(self, frames: list[str] | None = None) -> torch.Tensor:
            codes = {"f1": 1.0, "f2": 2.0, "f4": 4.0}
            selected = [codes[name] for name in frames or codes]
            return torch.full((3,), sum(selected) / len(selected))

    return TrainedScene([], [])


def test_reference_segment_trains_the_most_blocks() -> None:
    assert reference_segment(CAPTURE, [(0, 1), (1, 2), (0,)]) == "dusk"
    assert reference_segment(CAPTURE, [(0,), (2,), (2,)]) == "noon"


def test_reference_segment_ties_go_to_most_frames_then_first() -> None:
    assert reference_segment(CAPTURE, [(0, 1, 2, 5)]) == "noon"
    assert reference_segment(make_capture(["b", "a"], [None, None]), [(0, 1)]) == "b"


def test_default_code_is_the_mean_over_the_reference_segment(field) -> None:
    appearance = appearance_of(CAPTURE, [(2, 3, 4), (1, 2)])
    assert code_for_block(field, appearance).tolist() == [3.0, 3.0, 3.0]
    # Two of noon's images have an exposure; half way between them the result is their mean in stops.
    assert appearance.exposure_at(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx((0.1 * 0.3) ** 0.5)


def test_requested_segment(field) -> None:
    appearance = appearance_of(CAPTURE, [(2,)], segment="dusk")
    assert code_for_block(field, appearance).tolist() == [1.0, 1.0, 1.0]
    assert appearance.exposure_at(torch.tensor([0.5, 0.0, 0.0])) == pytest.approx((4.0 * 8.0) ** 0.5)


def test_image_has_its_own_code_and_exposure(field) -> None:
    appearance = appearance_of(CAPTURE, [], frame="f4")
    assert code_for_block(field, appearance).tolist() == [4.0, 4.0, 4.0]
    assert appearance.exposure_at(torch.tensor([0.0, 0.0, 0.0])) == 0.3


def test_block_not_trained_on_the_image_uses_its_segment(field) -> None:
    appearance = appearance_of(CAPTURE, [], frame="f3")
    assert code_for_block(field, appearance).tolist() == [3.0, 3.0, 3.0]


def test_block_without_the_segment_uses_its_mean_code_and_reference_exposure(field) -> None:
    appearance = appearance_of(CAPTURE, [], segment="fog")
    assert code_for_block(field, appearance).tolist() == pytest.approx([7 / 3] * 3)
    assert appearance.exposure_at(torch.zeros(3)) is None
    assert exposure_for_block(field, None) == 0.5


def test_analytic_scene_has_no_codes(box_scene) -> None:
    scene = box_scene([], [])
    assert code_for_block(scene, AppearanceQuery()).tolist() == [0.0, 0.0, 0.0]
    assert AppearanceQuery().exposure_at(torch.zeros(3)) is None
    assert exposure_for_block(scene, None) == 1.0
    assert exposure_for_block(scene, 0.7) == 0.7


def test_unknown_names_raise_and_list_known_ones() -> None:
    with pytest.raises(RunError, match="no segment 'night'; name one of dusk, noon, fog"):
        appearance_of(CAPTURE, [], segment="night")
    with pytest.raises(RunError, match=r"no frame 'f9'; use a name from capture\.json"):
        appearance_of(CAPTURE, [], frame="f9")


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
