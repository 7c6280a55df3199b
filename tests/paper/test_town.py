"""The sample city with something taken out of it or put into it, and everything else as it was."""

from dataclasses import replace

import pytest
from tests.benchmarks.paper.translation_noise import translation_noise

from blocknerf.capture.capture import Capture
from blocknerf.town.views import SampleSpec
from tests.benchmarks.paper.town import (
    photograph,
    with_masks_of,
    with_pose_error,
    without_exposures,
    without_masks,
)


def test_photographs_are_taken_once(town: Capture, town_spec: SampleSpec) -> None:
    before = (town.image_dir / "transforms.json").stat().st_mtime_ns
    assert photograph(town.image_dir, town_spec).frames == town.frames
    assert (town.image_dir / "transforms.json").stat().st_mtime_ns == before


def test_each_drive_is_displaced_as_far_as_asked(town: Capture, town_spec: SampleSpec) -> None:
    found = []
    for seed in (0, 1):
        moved = with_pose_error(town, town_spec, meters=0.1, degrees=0.3, seed=seed)
        assert [
            replace(frame, camera_to_world=own.camera_to_world)
            for frame, own in zip(moved.frames, town.frames, strict=True)
        ] == list(town.frames)
        for members in town.segments.values():
            poses, truth = (capture.select(members).cameras().camera_to_world for capture in (moved, town))
            assert float((poses[:, :, 3].mean(0) - truth[:, :, 3].mean(0)).norm()) == pytest.approx(0.1, abs=1e-3)
            assert translation_noise(poses, truth) == pytest.approx((0.0, 0.0), abs=1e-2)
        found.append(translation_noise(moved.cameras().camera_to_world, town.cameras().camera_to_world))
    assert found[0] != found[1]
    assert all(0.5 < centimeters < 25.0 and 0.01 < degrees < 0.31 for centimeters, degrees in found)


def test_a_part_of_the_frames_is_displaced_about_its_own_middle(town: Capture, town_spec: SampleSpec) -> None:
    part = town.select(range(24))
    moved = with_pose_error(part, town_spec, meters=0.1, degrees=0.3, seed=0)
    shift = moved.cameras().centers.mean(0) - part.cameras().centers.mean(0)
    assert float(shift.norm()) == pytest.approx(0.1, abs=1e-3)


def test_masks_and_exposures_are_taken_out_and_nothing_else(town: Capture) -> None:
    bare, dark = without_masks(town), without_exposures(town)
    assert all(frame.mask is not None and frame.exposure is not None for frame in town.frames)
    assert all(frame.mask is None and frame.exposure is not None for frame in bare.frames)
    assert all(frame.mask is not None and frame.exposure is None for frame in dark.frames)
    assert with_masks_of(town, bare) == town
