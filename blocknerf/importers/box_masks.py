"""Masks from labeled boxes: pixels inside a box of an object that can move are ignored by training."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64

from blocknerf.cameras import CameraModel, Cameras
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.errors import CaptureError
from blocknerf.images import read_mask, write_image
from blocknerf.values import MAX_COORDINATE

NEAR = 0.05
"""Depth at which boxes are cut before projection (m): a box may begin behind the camera."""
MARGIN = 2.0
"""Pixels by which boxes grow in a mask: labels are tight, and projections off by about a pixel."""
MOVABLE = (
    "car", "van", "truck", "bus", "coach", "tram", "train", "trailer", "vehicle", "motorcycle", "motorcyclist",
    "motorbike", "bicycle", "bicyclist", "cyclist", "rider", "pedestrian", "person", "human", "adult", "child",
    "animal", "dog", "stroller", "wheelchair", "police_officer", "construction_worker", "personal_mobility",
    "pushable_pullable", "wheeled_device", "wheeled_rider", "misc", "scooter",
)  # fmt: skip
"""Words of classes that can move, also when they stand still: parked cars are gone on the next drive."""
STATIC = ("barrier", "trafficcone", "traffic_cone", "cone", "sign", "debris", "bicycle_rack", "traffic_light", "rack")
"""Words of classes that stay; such an object keeps its pixels even if its name holds a word of `MOVABLE`."""
_EDGES = np.array([(i, j) for i, j in combinations(range(8), 2) if (i ^ j).bit_count() == 1])
"""The twelve edges of a box; the three bits of i are the sides that corner i is on."""
_SIDES = np.array([[(i >> axis & 1) - 0.5 for axis in range(3)] for i in range(8)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes that hide the scene in one image: in space, as corners in the world, and in the image."""

    corners: Float64[np.ndarray, "boxes 8 3"]
    rectangles: Float64[np.ndarray, "rectangles 4"]
    """Left, top, right, bottom in pixels."""
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.corners) + len(self.rectangles)


NO_BOXES = Boxes(corners=np.zeros((0, 8, 3)), rectangles=np.zeros((0, 4)))


def can_move(name: str) -> bool:
    """Return whether objects of a class can move, by the words of its name in any data set.

    >>> can_move("vehicle.car"), can_move("Pedestrian"), can_move("movable_object.trafficcone"), can_move("DontCare")
    (True, True, False, False)
    """
    words = _words(name)
    return any(word in words for word in MOVABLE) and not any(word in words for word in STATIC)


def box_corners(
    center: Sequence[float] | Float64[np.ndarray, "3"],
    size: Sequence[float],
    rotation: Float64[np.ndarray, "3 3"],
) -> Float64[np.ndarray, "8 3"]:
    """Return the corners of a box; `size` is its extent along the columns of `rotation`."""
    return np.asarray(center) + (_SIDES * np.asarray(size)) @ rotation.T


def check_boxes(corners: Float64[np.ndarray, "boxes points axes"], where: str) -> None:
    """Raise if a coordinate is not finite or implausibly far.

    Raises:
        CaptureError: names the number of the first such box.
    """
    wrong = np.flatnonzero(~(np.abs(corners) < MAX_COORDINATE).all((1, 2)))
    if len(wrong):
        raise CaptureError(f"{where}: box {wrong[0]} is not finite; correct or remove it")


def write_box_masks(
    frames: Sequence[Frame], boxes: Sequence[Boxes], work: Path, margin: float = MARGIN
) -> tuple[list[Frame], list[str]]:
    """Write the masks of frames into `work`/masks; return the frames with their masks, and notes.

    A frame without a visible box keeps `mask=None`. Masks are white except where a box, grown by `margin` pixels,
    covers the image. A file that holds its mask already is not written again, so that its time stays.
    """
    masked, shares, classes = [], [], Counter[str]()
    for frame, frame_boxes in zip(frames, boxes, strict=True):
        hidden = hidden_pixels(frame, frame_boxes, margin) if len(frame_boxes) else np.zeros((1, 1), np.bool_)
        shares.append(float(hidden.mean()))
        if hidden.any():
            name = str(Path("masks") / Path(frame.image).with_suffix(".png"))
            if not (work / name).is_file() or not np.array_equal(read_mask(work / name), ~hidden):
                write_image(work / name, np.where(hidden, 0, 255).astype(np.uint8))
            frame = replace(frame, mask=name)
            classes.update(set(frame_boxes.classes))
        masked.append(frame)
    count = sum(share > 0 for share in shares)
    if not count:
        return masked, ["no labeled box of an object that can move is in view; no masks"]
    names = ", ".join(name for name, _ in classes.most_common(6))
    share = f"{100 * float(np.mean(shares)):.1f} % of all pixels"
    named = f" ({names})" if names else ""
    return masked, [f"labeled boxes mask {share}, in {count} of {len(frames)} images{named}"]


def hidden_pixels(frame: Frame, boxes: Boxes, margin: float) -> Bool[np.ndarray, "height width"]:
    """Return which pixels of a frame the boxes cover, grown by `margin` pixels."""
    hidden = np.zeros((frame.intrinsics.height, frame.intrinsics.width), np.bool_)
    pose = np.array(frame.camera_to_world)
    local = (boxes.corners - pose[:, 3]) @ pose[:, :3]
    if frame.intrinsics.model == CameraModel.PINHOLE:
        for corners in local:
            _fill_convex(hidden, _project_box(frame.intrinsics, corners), margin)
    else:
        hidden |= _hit_boxes(frame.intrinsics, local, margin)
    for left, top, right, bottom in boxes.rectangles:
        _fill_convex(hidden, np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), margin)
    return hidden


def _project_box(lens: Intrinsics, corners: Float64[np.ndarray, "8 3"]) -> Float64[np.ndarray, "points 2"]:
    """Return image positions with the outline of a box in camera axes as their convex hull; empty if it is behind."""
    edges = corners[_EDGES]
    edges = edges[(edges[:, :, 2] > NEAR).any(1)]
    depth = edges[:, :, 2]
    # Cut each edge where it passes the near plane; what is left is in front of the camera.
    fraction = (NEAR - depth[:, 0]) / np.where(depth[:, 0] == depth[:, 1], 1.0, depth[:, 1] - depth[:, 0])
    cuts = edges[:, 0] + fraction[:, None] * (edges[:, 1] - edges[:, 0])
    points = np.where((depth > NEAR)[:, :, None], edges, cuts[:, None]).reshape(-1, 3)
    return points[:, :2] / points[:, 2:] * (lens.fx, lens.fy) + (lens.cx, lens.cy)


def _hit_boxes(
    lens: Intrinsics, boxes: Float64[np.ndarray, "boxes 8 3"], margin: float
) -> Bool[np.ndarray, "height width"]:
    """Return the pixels with rays that hit a box in camera axes; lens distortion curves its outline."""
    import cv2

    directions = _directions(lens)
    hidden = np.zeros(len(directions), np.bool_)
    for corners in boxes:
        center = corners.mean(0)
        radius, distance = np.linalg.norm(corners - center, axis=1).max(), np.linalg.norm(center)
        least = np.sqrt(1 - (radius / distance) ** 2) if radius < distance else -1.0
        near = np.flatnonzero(directions @ (center / max(distance, NEAR)) >= least)
        hidden[near[_hits(directions[near], corners)]] = True
    image = hidden.reshape(lens.height, lens.width).astype(np.uint8)
    size = 2 * round(margin) + 1
    return cv2.dilate(image, np.ones((size, size), np.uint8)).astype(np.bool_)


def _hits(directions: Float64[np.ndarray, "rays 3"], corners: Float64[np.ndarray, "8 3"]) -> Bool[np.ndarray, "rays"]:
    """Return which rays from the origin hit a box, by the slabs between its sides."""
    axes = corners[[1, 2, 4]] - corners[0]
    axes = axes / np.maximum((axes**2).sum(1, keepdims=True), 1e-12)
    origin, along = -corners[0] @ axes.T, directions @ axes.T
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    first, second = -origin / along, (1.0 - origin) / along
    entry, leave = np.minimum(first, second).max(1), np.maximum(first, second).min(1)
    return np.asarray((leave >= entry) & (leave > 0))


@lru_cache(maxsize=16)
def _directions(lens: Intrinsics) -> Float64[np.ndarray, "pixels 3"]:
    """Return the unit directions of all pixels in camera axes."""
    cameras = Cameras(
        camera_to_world=torch.eye(3, 4, dtype=torch.float64)[None],
        intrinsics=torch.tensor([(lens.fx, lens.fy, lens.cx, lens.cy)], dtype=torch.float64),
        distortion=torch.tensor([lens.distortion], dtype=torch.float64),
        model=torch.tensor([int(lens.model)]),
        width=torch.tensor([lens.width]),
        height=torch.tensor([lens.height]),
    )
    return cameras.generate_rays(0).directions.reshape(-1, 3).numpy()


def _fill_convex(
    hidden: Bool[np.ndarray, "height width"], points: Float64[np.ndarray, "points 2"], margin: float
) -> None:
    """Set the pixels with centers within `margin` of the half planes that bound the points' convex hull."""
    outline = _hull(points)
    if len(outline) < 3:
        return
    height, width = hidden.shape
    low = np.clip(np.floor(outline.min(0) - margin), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(outline.max(0) + margin), 0, (width, height)).astype(int)
    x, y = np.arange(low[0], high[0]) + 0.5, (np.arange(low[1], high[1]) + 0.5)[:, None]
    inside = np.ones((high[1] - low[1], high[0] - low[0]), np.bool_)
    for start, end in zip(outline, np.roll(outline, -1, 0), strict=True):
        along = (end - start) / np.hypot(*(end - start))
        inside &= (x - start[0]) * along[1] - (y - start[1]) * along[0] <= margin
    hidden[low[1] : high[1], low[0] : high[0]] |= inside


def _hull(points: Float64[np.ndarray, "points 2"]) -> Float64[np.ndarray, "corners 2"]:
    """Return the corners of the convex hull counterclockwise in x, y; empty if the points have no area."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) < 3:
        return points[:0]
    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points[:0]


def _words(name: str) -> set[str]:
    """Return the words of a class name with every run of them: "Person (sitting)" has person and sitting."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    words = [word for word in re.split(r"[^a-z]+", spaced) if word]
    return {"_".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 3, len(words)) + 1)}
