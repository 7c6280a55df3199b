"""Masks of boxes: outlines in any lens, behind the camera, and classes that can move."""

from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.cameras import CameraModel, Cameras
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.images import read_mask
from blocknerf.importers.box_masks import NO_BOXES, Boxes, box_corners, can_move, hidden_pixels, write_box_masks

WIDTH, HEIGHT = 96, 64
POSE = ((0.8, 0.0, 0.6, 1.0), (0.0, 1.0, 0.0, 2.0), (-0.6, 0.0, 0.8, 3.0))
DISTORTION = {
    CameraModel.PINHOLE: (0.0,) * 6,
    CameraModel.OPENCV: (-0.2, 0.03, 0.001, -0.002, 0.0, 0.0),
    CameraModel.FISHEYE: (0.05, -0.01, 0.0, 0.0, 0.002, 0.0),
}
TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
PLACES = {
    "ahead": (0.5, 0.2, 8.0),
    "at the edge": (4.0, 0.0, 6.0),
    "around": (0.0, 0.0, 0.0),
    "partly behind": (1.5, 0.5, 0.5),
}


def _frame(model: CameraModel, image: str = "a/0.jpg") -> Frame:
    lens = Intrinsics(
        width=WIDTH, height=HEIGHT, fx=50.0, fy=52.0, cx=47.0, cy=33.0, model=model, distortion=DISTORTION[model]
    )
    return Frame(name=image, image=image, intrinsics=lens, camera_to_world=POSE, segment="s", camera="c")


def _box(center: tuple[float, float, float]) -> np.ndarray:
    """Return corners of a box at a place in the axes of the camera."""
    pose = np.array(POSE)
    return box_corners(pose[:, :3] @ center + pose[:, 3], (4.0, 2.0, 1.5), TURNED)


def _oracle(frame: Frame, corners: np.ndarray) -> np.ndarray:
    """Return the pixels with rays that enter the box, by many points along each ray."""
    lens = frame.intrinsics
    cameras = Cameras(
        camera_to_world=torch.tensor([POSE], dtype=torch.float64),
        intrinsics=torch.tensor([(lens.fx, lens.fy, lens.cx, lens.cy)], dtype=torch.float64),
        distortion=torch.tensor([lens.distortion], dtype=torch.float64),
        model=torch.tensor([int(lens.model)]),
        width=torch.tensor([WIDTH]),
        height=torch.tensor([HEIGHT]),
    )
    rays = cameras.generate_rays(0)
    distances = np.geomspace(0.06, 15.0, 500)
    hit = np.zeros((HEIGHT, WIDTH), np.bool_)
    axes = corners[[1, 2, 4]] - corners[0]
    for distance in distances:
        local = (rays.origins + distance * rays.directions).numpy() - corners[0]
        inside = local @ axes.T / (axes**2).sum(1)
        hit |= ((inside >= 0) & (inside <= 1)).all(-1)
    return hit


@pytest.mark.parametrize("model", list(CameraModel))
@pytest.mark.parametrize("place", PLACES)
def test_a_mask_is_where_rays_enter_the_box(model: CameraModel, place: str) -> None:
    frame, corners = _frame(model), _box(PLACES[place])
    expected = _oracle(frame, corners)
    found = hidden_pixels(frame, Boxes(corners=corners[None], rectangles=NO_BOXES.rectangles), 0.0)
    assert expected.any()
    assert (found != expected).mean() < 0.005  # rays that graze an edge
    grown = hidden_pixels(frame, Boxes(corners=corners[None], rectangles=NO_BOXES.rectangles), 2.0)
    assert not (found & ~grown).any()
    assert found.all() or grown.sum() > found.sum()


@pytest.mark.parametrize("model", list(CameraModel))
@pytest.mark.parametrize("center", [(0.0, 0.0, -9.0), (50.0, 0.0, 1.0)])
def test_a_box_out_of_view_hides_nothing(model: CameraModel, center: tuple[float, float, float]) -> None:
    boxes = Boxes(corners=_box(center)[None], rectangles=NO_BOXES.rectangles)
    assert not hidden_pixels(_frame(model), boxes, 2.0).any()


def test_a_rectangle_grows_by_the_margin() -> None:
    boxes = Boxes(corners=NO_BOXES.corners, rectangles=np.array([[10.0, 20.0, 30.0, 40.0], [90.0, -5.0, 200.0, 5.0]]))
    hidden = hidden_pixels(_frame(CameraModel.PINHOLE), boxes, 3.0)
    expected = np.zeros((HEIGHT, WIDTH), np.bool_)
    expected[17:43, 7:33] = expected[:8, 87:] = True
    assert np.array_equal(hidden, expected)


def test_masks_are_written_for_frames_with_boxes(tmp_path: Path) -> None:
    frames = [_frame(CameraModel.PINHOLE, f"a/{i}.jpg") for i in range(2)]
    boxes = Boxes(corners=_box(PLACES["ahead"])[None], rectangles=NO_BOXES.rectangles, classes=("Car",))
    masked, notes = write_box_masks(frames, [boxes, NO_BOXES], tmp_path, 1.0)
    assert [frame.mask for frame in masked] == ["masks/a/0.png", None]
    hidden = hidden_pixels(frames[0], boxes, 1.0)
    assert np.array_equal(read_mask(tmp_path / "masks/a/0.png"), ~hidden)
    share = f"{100 * hidden.mean() / 2:.1f}"
    assert notes == [f"labeled boxes mask {share} % of all pixels, in 1 of 2 images (Car)"]
    _, notes = write_box_masks(frames, [NO_BOXES] * 2, tmp_path, 1.0)
    assert notes == ["no labeled box of an object that can move is in view; no masks"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Car", True), ("Person (sitting)", True), ("Person_sitting", True), ("Cyclist", True), ("Tram", True),
        ("Misc", True), ("DontCare", False), ("vehicle.emergency.ambulance", True), ("human.pedestrian.adult", True),
        ("animal", True), ("vehicle.bus.bendy", True), ("movable_object.pushable_pullable", True),
        ("movable_object.barrier", False), ("movable_object.trafficcone", False), ("movable_object.debris", False),
        ("static_object.bicycle_rack", False), ("TrafficSign", False), ("CONSTRUCTION_CONE", False),
    ],
)  # fmt: skip
def test_classes_that_can_move(name: str, expected: bool) -> None:
    assert can_move(name) == expected
