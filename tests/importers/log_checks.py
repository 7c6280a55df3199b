"""Checks that all importers of driving logs share."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError
from blocknerf.importers.importer import ImportOptions
from blocknerf.importers.recognition import load_source
from tests.importers.town_log import CAR_SIZE, Moment


def refusal(path: Path, work: Path, options: ImportOptions = ImportOptions()) -> str:  # noqa: B008
    """Return the error of an import, which must be one line."""
    with pytest.raises(CaptureError) as caught:
        load_source(path, options, work)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_poses(capture: Capture, expected: dict[str, np.ndarray], tolerance: float = 1e-6) -> None:
    """Check the pose of every frame, by name."""
    assert sorted(frame.name for frame in capture.frames) == sorted(expected)
    for frame in capture.frames:
        np.testing.assert_allclose(frame.camera_to_world, expected[frame.name][:3], atol=tolerance, rtol=tolerance)


def check_sweeps(capture: Capture, moments: list[Moment], offset: np.ndarray) -> None:
    """Check that each frame finds the points of its moment in the world; `offset` is the world's origin in the town."""
    assert len(capture.lidar_sweeps) == len(moments)
    times = np.array([moment.timestamp for moment in moments])
    for index, frame in enumerate(capture.frames):
        assert frame.timestamp is not None
        moment = moments[int(np.abs(times - (frame.timestamp - capture.lidar_sweeps[0].timestamp + times[0])).argmin())]
        cloud = capture.read_sweep(index)
        assert cloud is not None
        np.testing.assert_allclose(cloud.positions, moment.points - offset, atol=2e-5)


def check_box_mask(
    capture: Capture, index: int, moment: Moment, camera: str, extra: np.ndarray | None = None, margin: int = 2
) -> None:
    """Check that the mask covers what moves, and the boxes of the cars (and `extra` pixels) grown by the margin."""
    mask = capture.read_mask(index)
    frame = capture.frames[index]
    hidden = np.zeros((frame.intrinsics.height, frame.intrinsics.width), np.bool_) if mask is None else ~mask
    assert not (moment.moving[camera] & ~hidden).any()
    boxes = np.any([_hits(capture, index, moment, camera, car) for car in moment.cars], 0)
    boxes |= np.False_ if extra is None else extra
    assert not (boxes & ~hidden).any()
    size = 2 * (margin + 1) + 1  # a corner grows by more than its sides
    assert not (hidden & ~cv2.dilate(boxes.astype(np.uint8), np.ones((size, size))).astype(np.bool_)).any()


def _hits(capture: Capture, index: int, moment: Moment, camera: str, car: np.ndarray) -> np.ndarray:
    """Return the pixels with rays that pass through a car's box, by the slabs between its sides."""
    lens = capture.frames[index].intrinsics
    x, y = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    rays = np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones_like(x)], -1)
    to_car = np.linalg.inv(car) @ moment.cameras[camera]
    directions, origin = rays @ to_car[:3, :3].T, to_car[:3, 3]
    near = (np.sign(directions) * -np.array(CAR_SIZE) / 2 - origin) / directions
    far = (np.sign(directions) * np.array(CAR_SIZE) / 2 - origin) / directions
    return (far.min(-1) > near.max(-1)) & (far.min(-1) > 0)
