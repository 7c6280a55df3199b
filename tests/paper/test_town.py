"""Changes of the sample capture leave everything else unchanged."""

from dataclasses import replace

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.town.views import SampleSpec
from tests.benchmarks.paper.pose_error import pose_error
from tests.benchmarks.paper.town import (
    sample_capture,
    with_masks_of,
    with_pose_error,
    without_exposures,
    without_masks,
)


def test_the_sample_is_written_once(town: Capture, town_spec: SampleSpec) -> None:
    before = (town.image_dir / "transforms.json").stat().st_mtime_ns
    assert sample_capture(town.image_dir, town_spec).frames == town.frames
    assert (town.image_dir / "transforms.json").stat().st_mtime_ns == before


def test_each_segment_is_displaced_by_the_given_error(town: Capture, town_spec: SampleSpec) -> None:
    errors = []
    for seed in (0, 1):
        moved = with_pose_error(town, town_spec, meters=0.1, degrees=0.3, seed=seed)
        assert [
            replace(frame, camera_to_world=original.camera_to_world)
            for frame, original in zip(moved.frames, town.frames, strict=True)
        ] == list(town.frames)
        for members in town.segments.values():
            poses, truth = (capture.select(members).cameras().camera_to_world for capture in (moved, town))
            assert float((poses[:, :, 3].mean(0) - truth[:, :, 3].mean(0)).norm()) == pytest.approx(0.1, abs=1e-3)
            assert pose_error(poses, truth) == pytest.approx((0.0, 0.0), abs=1e-2)
        errors.append(pose_error(moved.cameras().camera_to_world, town.cameras().camera_to_world))
    assert errors[0] != errors[1]
    assert all(0.5 < centimeters < 25.0 and 0.01 < degrees < 0.31 for centimeters, degrees in errors)


def test_selected_frames_are_displaced_about_their_center(town: Capture, town_spec: SampleSpec) -> None:
    part = town.select(range(24))
    moved = with_pose_error(part, town_spec, meters=0.1, degrees=0.3, seed=0)
    translation = moved.cameras().centers.mean(0) - part.cameras().centers.mean(0)
    assert float(translation.norm()) == pytest.approx(0.1, abs=1e-3)


def test_only_masks_or_exposures_are_removed(town: Capture) -> None:
    unmasked, unexposed = without_masks(town), without_exposures(town)
    assert all(frame.mask is not None and frame.exposure is not None for frame in town.frames)
    assert all(frame.mask is None and frame.exposure is not None for frame in unmasked.frames)
    assert all(frame.mask is not None and frame.exposure is None for frame in unexposed.frames)
    assert with_masks_of(town, unmasked) == town
