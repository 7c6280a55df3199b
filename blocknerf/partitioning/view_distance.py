"""How far away the scene is that the cameras see: from points, else from features matched between images."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, Float64

from blocknerf.capture.capture import Capture
from blocknerf.errors import CaptureError

MAX_CAMERAS, MAX_POINTS = 12, 20_000
"""Samples of cameras and points that the distance is measured with."""
MAX_SIDE = 640
"""Longer side, in pixels, of the images that features are matched in."""
MAX_EPIPOLAR_ERROR = 1.5
"""Largest distance, in pixels, of a match to its epipolar line; poses are known, so others are mismatches."""
MIN_ANGLE = 0.3
"""Smallest angle (degrees) between two rays that locates a point; a smaller one is a lower bound of the distance."""
MIN_MATCHES, MAX_FEATURES = 30, 2_000
RATIO = 0.75
"""A match counts if its descriptor is this much nearer than the second nearest (Lowe 2004)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Features:
    """Features of one image as rays in the world."""

    center: Float64[np.ndarray, "3"]
    directions: Float64[np.ndarray, "features 3"]
    descriptors: Float32[np.ndarray, "features 128"]
    pixel_angle: float
    """Angle between neighboring pixels, in radians."""


def view_distance(capture: Capture) -> float | None:
    """Return the median distance of the scene from the cameras; None if neither points nor images tell it.

    A missing image counts as one without features: placement needs no images.
    """
    distances = _point_distances(capture)
    if distances is None:
        distances = _matched_distances(capture)
    return float(np.median(distances)) if len(distances) else None


def _point_distances(capture: Capture) -> Float64[np.ndarray, "seen"] | None:
    """Return distances of points in view; None without points."""
    cloud = capture.read_sparse_points() or capture.read_lidar_points()
    if cloud is None or len(cloud) == 0:
        return None
    points = torch.from_numpy(cloud.positions[:: max(1, len(cloud) // MAX_POINTS)])
    cameras = capture.select(_evenly_spaced(capture)).cameras()
    seen = [points[cameras.project(points, i)[2]] - cameras.centers[i] for i in range(len(cameras))]
    return torch.cat(seen).norm(dim=-1).double().numpy()


def _matched_distances(capture: Capture) -> Float64[np.ndarray, "matches"]:
    """Return distances of features that are matched between successive sampled images."""
    indices = _evenly_spaced(capture)
    features = {i: _features(capture, i) for i in indices}
    distances = [_triangulate(features[a], features[b]) for a, b in pairwise(indices)]
    found = np.concatenate([np.zeros(0), *distances])
    return found if len(found) >= MIN_MATCHES else np.zeros(0)


def _evenly_spaced(capture: Capture) -> list[int]:
    return list(range(0, len(capture), max(1, len(capture) // MAX_CAMERAS)))


def _features(capture: Capture, index: int) -> _Features:
    import cv2

    lens = capture.frames[index].intrinsics
    downscale = max(1, -(-max(lens.size) // MAX_SIDE))
    try:
        image = cv2.cvtColor(capture.read_image(index, downscale), cv2.COLOR_RGB2GRAY)
    except CaptureError:
        image = np.zeros((1, 1), np.uint8)
    keypoints, descriptors = cv2.SIFT.create(MAX_FEATURES).detectAndCompute(image, None)
    camera = capture.select([index]).cameras().scaled(1 / downscale)
    # OpenCV's first pixel has its center at 0, the cameras' at 0.5.
    pixels = torch.tensor([keypoint.pt for keypoint in keypoints]).reshape(-1, 2) + 0.5
    rays = camera.rays(torch.zeros(len(pixels), dtype=torch.int64), pixels)
    return _Features(
        center=camera.centers[0].double().numpy(),
        directions=rays.directions.double().numpy(),
        descriptors=np.zeros((0, 128), np.float32) if descriptors is None else descriptors,
        pixel_angle=downscale / lens.fx,
    )


def _triangulate(first: "_Features", second: "_Features") -> Float64[np.ndarray, "matches"]:
    """Return the distances, from the first camera, of the features that two images share."""
    import cv2

    baseline = second.center - first.center
    if min(len(first.directions), len(second.directions)) < 2 or not baseline.any():
        return np.zeros(0)
    pairs = cv2.BFMatcher().knnMatch(first.descriptors, second.descriptors, k=2)
    good = [best for best, other in pairs if best.distance < RATIO * other.distance]
    a, b = first.directions[[m.queryIdx for m in good]], second.directions[[m.trainIdx for m in good]]
    # Both rays and the baseline lie in one plane; sines are relative to the pixel's angle.
    normal = np.cross(a, baseline)
    off_plane = np.abs((b * normal).sum(1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    cosine, along_a, along_b = (a * b).sum(1), a @ baseline, b @ baseline
    sine_squared = np.maximum(1 - cosine**2, 1e-15)
    distance, other = (along_a - cosine * along_b) / sine_squared, (cosine * along_a - along_b) / sine_squared
    on_plane = off_plane < MAX_EPIPOLAR_ERROR * max(first.pixel_angle, second.pixel_angle)
    small = math.sin(math.radians(MIN_ANGLE))
    is_far = sine_squared < small**2
    distance = np.where(is_far, np.linalg.norm(baseline) / small, distance)
    return distance[on_plane & (is_far | ((distance > 0) & (other > 0)))]
