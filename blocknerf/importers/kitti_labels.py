"""Labels of KITTI: tracklets of a raw drive (XML) and labels of the tracking benchmark (text)."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from blocknerf.errors import CaptureError
from blocknerf.files import read_bounded
from blocknerf.importers.box_masks import box_corners, can_move, check_boxes
from blocknerf.importers.log_text import MAX_TEXT_BYTES, parse_numbers, read_lines
from blocknerf.values import first_line

MAX_LABELED_FRAME = 10_000_000
_TRACKING_COLUMNS = 14
"""Numbers of a tracking label after frame, track and type, without the score: truncation to rotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A box of an object that can move in one frame."""

    name: str
    corners: Float64[np.ndarray, "8 3"] | None
    """Corners in the coordinates of the sensor; None if only its rectangle is known."""
    rectangle: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom in the image of camera 2 (pixels)."""


Labels = dict[int, list[Label]]
"""Labels by frame number."""


def read_tracklets(path: Path) -> Labels:
    """Return the boxes of `tracklet_labels.xml`, in the coordinates of the LiDAR.

    A tracklet is an object with a size and one pose per frame; the position is the center of its bottom.

    Raises:
        CaptureError: the file is not such an XML.
    """
    labels: Labels = defaultdict(list)
    for number, item in enumerate(_tracklet_items(path)):
        where = f"{path}: tracklet {number}"
        name = (item.findtext("objectType") or "").strip()
        if not can_move(name):
            continue
        height, width, length, first = _xml_numbers(item, ("h", "w", "l", "first_frame"), where)
        for offset, pose in enumerate(item.findall("poses/item")):
            x, y, z, *angles = _xml_numbers(pose, ("tx", "ty", "tz", "rx", "ry", "rz"), where)
            rotation = Rotation.from_euler("xyz", angles).as_matrix()
            corners = box_corners((x, y, z + height / 2), (length, width, height), rotation)
            check_boxes(corners[None], where)
            labels[_frame_number(first, where) + offset].append(Label(name=name, corners=corners))
    return labels


def read_tracking_labels(path: Path) -> Labels:
    """Return the boxes of a label file of the tracking benchmark, in the coordinates of rectified camera 0.

    A line holds frame, track, type, truncation, occlusion, alpha, rectangle (4), height, width, length, bottom center
    (3), rotation about y, and for detections a score. Without a size, only the rectangle in camera 2 is used.

    Raises:
        CaptureError: a line does not hold that.
    """
    labels: Labels = defaultdict(list)
    for number, line in enumerate(read_lines(path, "label file"), 1):
        where, words = f"{path}: line {number}", line.split()
        if len(words) not in (3 + _TRACKING_COLUMNS, 4 + _TRACKING_COLUMNS):
            raise CaptureError(f"{where}: has {len(words)} values instead of {3 + _TRACKING_COLUMNS}; correct it")
        values = parse_numbers(" ".join(words[3 : 3 + _TRACKING_COLUMNS]), _TRACKING_COLUMNS, where)
        frame = _frame_number(parse_numbers(words[0], 1, where)[0], where)
        if can_move(words[2]):
            labels[frame].append(_tracking_label(words[2], values, where))
    return labels


def _tracking_label(name: str, values: list[float], where: str) -> Label:
    left, top, right, bottom, height, width, length, x, y, z, angle = values[3:]
    if min(height, width, length) <= 0:
        check_boxes(np.array([left, top, right, bottom]).reshape(1, 1, 4), where)
        return Label(name=name, corners=None, rectangle=(left, top, right, bottom))
    rotation = Rotation.from_rotvec((0.0, angle, 0.0)).as_matrix()
    corners = box_corners((x, y - height / 2, z), (length, height, width), rotation)
    check_boxes(corners[None], where)
    return Label(name=name, corners=corners)


def _tracklet_items(path: Path) -> list[ElementTree.Element]:
    try:
        data = read_bounded(path, "tracklet file", CaptureError, MAX_TEXT_BYTES)
        if b"<!ENTITY" in data:
            raise CaptureError(f"{path}: declares XML entities, which KITTI's tracklets do not; restore it")
        return ElementTree.fromstring(data).findall("tracklets/item")
    except FileNotFoundError:
        raise CaptureError(f"{path}: this tracklet file does not exist; restore it") from None
    except (ElementTree.ParseError, ValueError, LookupError) as fault:
        raise CaptureError(f"{path}: is not valid XML ({first_line(fault)}); restore or remove it") from None


def _xml_numbers(item: ElementTree.Element, keys: tuple[str, ...], where: str) -> list[float]:
    return [parse_numbers(item.findtext(key) or "", 1, f"{where}: {key}")[0] for key in keys]


def _frame_number(value: float, where: str) -> int:
    if not 0 <= value <= MAX_LABELED_FRAME or value != int(value):
        raise CaptureError(f"{where}: {value:g} is not a frame number; correct it")
    return int(value)
