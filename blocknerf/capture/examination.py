"""Examination of an imported capture: refuse what cannot be right, correct what is certain, warn of the rest."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from blocknerf.cameras import CameraModel
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import Frame, Intrinsics
from blocknerf.capture.orientation import (
    MIN_SEEN,
    Up,
    axes_are_flipped,
    estimate_up,
    flip_axes,
    points_seen,
    rotation_to_z,
)
from blocknerf.errors import CaptureError
from blocknerf.geo import enu_to_geodetic
from blocknerf.similarity import Rows, chain, to_rows, transform_pose
from blocknerf.values import one_case

UpAxis = Literal["auto", "x", "y", "z", "-x", "-y", "-z"]
CameraAxes = Literal["auto", "opengl", "opencv"]

MAX_ANGLE, MIN_ANGLE = 150.0, 0.3
"""Angles of view (degrees) between which a lens without fisheye model can be; 150 degrees is a 5 mm lens."""
MAX_TILT = 15.0
"""Degrees between up and +z that are left as they are: hills, and cameras that all look a little up or down."""
FAR, FAR_EXTENTS = 1e3, 10.0
"""Captures farther from the origin than this many units and extents are moved; single precision would round them."""
OUTLIER_RADII, MAX_OUTLIERS = 3.0, 0.01
"""Cameras this many times farther from the median than 90 % of them are outliers, if they are at most this share."""
MIN_FOR_OUTLIERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """What a user says, or a format defines, about the world of a capture; the rest is decided from the data."""

    up: UpAxis = "auto"
    """World axis that points up. auto: decided from the cameras."""
    camera_axes: CameraAxes | None = None
    """Axes of the cameras in the source. None: the format defines them. auto: decided from points and motion."""


def examine(capture: Capture, conventions: Conventions) -> Capture:
    """Return a capture with the corrections that are certain, and notes on them and on what is doubtful.

    Raises:
        CaptureError: the capture cannot be right: a lens is impossible, or poses are too far apart to compute with.
    """
    check_lenses(capture)
    for step in (_move_to_origin, _correct_axes, _correct_up, _check_points, _check_outliers):
        capture = step(capture, conventions)
    return capture


def check_lenses(capture: Capture) -> None:
    """Raise if a lens cannot be right: angle of view, principal point, or one lens for images of several sizes.

    Raises:
        CaptureError: names the first frame with such a lens.
    """
    first: dict[tuple[str, float, float], Frame] = {}
    for frame in capture.frames:
        lens = frame.intrinsics
        other = first.setdefault((frame.camera, lens.fx, lens.fy), frame)
        if _is_scaled(lens, other.intrinsics):
            raise CaptureError(
                f"frames {one_case(other.name)} and {one_case(frame.name)} have one focal length, {lens.fx:g} pixels, "
                f"for images of {'x'.join(map(str, other.intrinsics.size))} and {'x'.join(map(str, lens.size))}; "
                "give w, h and focal length of the lens, per frame if images differ"
            )
    for frame in capture.frames:
        if fault := _lens_fault(frame.intrinsics):
            raise CaptureError(f"frame {one_case(frame.name)}: {fault}")


def outlying_frames(capture: Capture) -> list[int]:
    """Return the frames of cameras that are far from all others, by their distance to the median camera."""
    if len(capture) < MIN_FOR_OUTLIERS:
        return []
    centers = capture.centers
    distances = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    typical = max(float(np.quantile(distances, 0.9)), 1e-9)
    found = np.flatnonzero(distances > OUTLIER_RADII * typical)
    return found.tolist() if len(found) <= max(1.0, MAX_OUTLIERS * len(capture)) else []


def without_outliers(capture: Capture) -> Capture:
    """Return the capture without its outlying frames; most captures have none, and are returned unchanged."""
    outliers = set(outlying_frames(capture))
    return capture.select([i for i in range(len(capture)) if i not in outliers]) if outliers else capture


def _lens_fault(lens: Intrinsics) -> str | None:
    """Return what makes a lens impossible, and the remedy; None if it is plausible."""
    for size, focal, key in ((lens.width, lens.fx, "fl_x"), (lens.height, lens.fy, "fl_y")):
        angle = math.degrees(2 * math.atan(size / (2 * focal)))
        if lens.model != CameraModel.FISHEYE and not MIN_ANGLE < angle < MAX_ANGLE:
            return (
                f"{key} {focal:g} makes an angle of view of {angle:.1f} degrees over {size} pixels; "
                "give the focal length in pixels, not in millimeters"
            )
    cx, cy = lens.cx, lens.cy
    if 0 < cx <= 1 and 0 < cy <= 1 and min(lens.size) > 2:
        return f"principal point ({cx:g}, {cy:g}) is a corner of the image; multiply it by width and height"
    if cx <= 0 or cy <= 0 or cx >= lens.width or cy >= lens.height:
        swapped = abs(cy / lens.width - 0.5) < 0.1 and abs(cx / lens.height - 0.5) < 0.1
        remedy = "swap cx and cy" if swapped else "correct cx and cy, or omit them for the image center"
        return f"principal point ({cx:g}, {cy:g}) is outside the image of {lens.width}x{lens.height}; {remedy}"
    return None


def _is_scaled(lens: Intrinsics, other: Intrinsics) -> bool:
    """Whether two images of one lens are scaled versions of each other, rather than crops."""
    across, down = lens.width / other.width, lens.height / other.height
    return abs(across / down - 1) < 0.02 and abs(across - 1) > 0.1


def _move_to_origin(capture: Capture, conventions: Conventions) -> Capture:
    """Move a capture in map coordinates (UTM) near the origin."""
    center = np.median(capture.centers, axis=0)
    distance = float(np.abs(center).max())
    if distance < max(FAR, FAR_EXTENTS * capture.extent):
        return capture
    x, y, z = (float(number) for number in -np.round(center))
    moved = _transformed(capture, ((1.0, 0.0, 0.0, x), (0.0, 1.0, 0.0, y), (0.0, 0.0, 1.0, z)))
    if capture.geo_origin is not None:
        latitude, longitude = enu_to_geodetic(-x, -y, capture.geo_origin)
        moved = replace(moved, geo_origin=(latitude, longitude, capture.geo_origin[2] - z))
    return _noted(
        moved,
        f"moved by ({x:.0f}, {y:.0f}, {z:.0f}): single precision rounds coordinates {distance:.3g} from the origin",
    )


def _correct_axes(capture: Capture, conventions: Conventions) -> Capture:
    """Reverse y and z of all cameras that a file stores with OpenCV axes although its format has OpenGL's."""
    if conventions.camera_axes in (None, "opengl"):
        return capture
    if conventions.camera_axes == "opencv":
        return flip_axes(capture)
    seen = points_seen(capture)
    if not axes_are_flipped(capture):
        return capture
    reason = "cameras would look at the sky, or backward on their heads"
    if seen is not None:
        reason = f"{seen:.0%} of the points would be in an image, {points_seen(flip_axes(capture)) or 0.0:.0%} are now"
    return _noted(
        flip_axes(capture),
        f"warning: camera axes are OpenCV's (y down, z forward), not OpenGL's: {reason}; y and z of each camera were "
        "reversed; --camera-axes opengl keeps them",
    )


def _correct_up(capture: Capture, conventions: Conventions) -> Capture:
    """Rotate a world if its up direction is certain and not near +z; warn if it is doubtful or defined otherwise."""
    if conventions.up == "z":
        return capture
    if conventions.up != "auto":
        return _rotated(capture, _named_axis(conventions.up))
    up = estimate_up(capture)
    if up is None or up.tilt <= MAX_TILT:
        return capture
    found = f"up is {up.name}, {up.tilt:.0f} degrees from +z, according to the cameras"
    if capture.geo_origin is not None:
        return _noted(capture, f"warning: {found}, but the capture has a geographic origin; check its poses")
    if not up.certain:
        return _noted(capture, f"warning: perhaps {found}; if so, give --up AXIS")
    return _noted(
        _rotated(capture, up), f"warning: {found}; the world was rotated so that +z is up; --up z keeps it as it was"
    )


def _check_points(capture: Capture, conventions: Conventions) -> Capture:
    """Leave out points that are in no image: they belong to another world, and would misplace blocks."""
    seen = points_seen(capture)
    if seen is None or seen >= MIN_SEEN:
        return capture
    share = "none" if seen == 0.0 else f"only {seen:.1%}"
    return _noted(
        replace(capture, sparse_points=None, lidar_points=None),
        f"warning: {share} of the points is in any image, so they do not fit the poses (another world, axes or unit); "
        "they are left out",
    )


def _check_outliers(capture: Capture, conventions: Conventions) -> Capture:
    outliers = outlying_frames(capture)
    if not outliers:
        return capture
    centers = capture.centers
    distance = np.linalg.norm(centers[outliers] - np.median(centers, axis=0), axis=1).max()
    names = ", ".join(one_case(capture.frames[i].name) for i in outliers[:3])
    more = f" and {len(outliers) - 3} more" if len(outliers) > 3 else ""
    unit = "m" if capture.is_metric else "units"
    return _noted(
        capture,
        f"warning: {names}{more}: {distance:.3g} {unit} from the other cameras; blocks are placed without "
        f"{'it' if len(outliers) == 1 else 'them'}; correct the pose, or remove the frame",
    )


def _rotated(capture: Capture, up: Up) -> Capture:
    rotation = rotation_to_z(up.direction)
    return _transformed(capture, to_rows(np.column_stack([rotation, np.zeros(3)])))


def _named_axis(name: UpAxis) -> Up:
    direction = [0.0, 0.0, 0.0]
    direction["xyz".index(name[-1])] = -1.0 if name.startswith("-") else 1.0
    x, y, z = direction
    return Up(direction=(x, y, z), certain=True)


def _transformed(capture: Capture, transform: Rows) -> Capture:
    """Return the capture with poses, sweeps and points moved by a similarity."""
    frames = (replace(f, camera_to_world=transform_pose(f.camera_to_world, transform)) for f in capture.frames)
    sweeps = (replace(s, sensor_to_world=transform_pose(s.sensor_to_world, transform)) for s in capture.lidar_sweeps)
    return replace(
        capture,
        frames=tuple(frames),
        lidar_sweeps=tuple(sweeps),
        source_to_world=chain(transform, capture.source_to_world),
    )


def _noted(capture: Capture, note: str) -> Capture:
    return replace(capture, notes=(*capture.notes, note))
