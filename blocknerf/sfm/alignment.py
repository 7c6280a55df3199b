"""Alignment of a reconstruction with GPS positions, in spite of outliers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from blocknerf.similarity import Rows, rotation_between, to_rows

MIN_POSITIONS = 3
TRIALS = 500
SAMPLE = 3
"""Positions from which a trial computes an alignment."""
MAD_TO_DEVIATION = 1.4826
"""Factor from the median deviation of a normal distribution to its standard deviation."""
OUTLIER = 3.0
"""Residual beyond which a position counts as an outlier, in standard deviations of the residuals and of the receiver.

Without the receiver's, one of six photos of a street was an outlier by chance, and the scale wrong by a factor of 1.8.
"""
MIN_OUTLIER = 1.0
"""Residual in meters up to which a position is never an outlier."""
TILT_GAIN = 1.5
"""How much smaller the residuals must become for GPS to determine the tilt."""
TILT_WIDTH = 3.0
"""How wide the area of the positions must be for that, as its smaller standard deviation, relative to the residuals.
In a single street the altitudes of a receiver are worse than the way people hold a camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """A similarity from a model to east, north, up in meters, and how well it fits."""

    transform: Rows
    residuals: Float64[np.ndarray, "positions"]
    """Distance of each camera from its GPS position, in meters."""
    inliers: Bool[np.ndarray, "positions"]

    @property
    def rms(self) -> float:
        """Root mean square of the residuals of the inliers, in meters."""
        return float(np.sqrt(np.mean(self.residuals[self.inliers] ** 2)))


def align_to_gps(
    centers: Float64[np.ndarray, "positions 3"],
    gps: Float64[np.ndarray, "positions 3"],
    errors: Float64[np.ndarray, "positions"],
    up: Float64[np.ndarray, "3"],
) -> Alignment | None:
    """Return the similarity from camera centers to GPS positions; None if they do not determine one.

    Args:
        centers: Camera centers of a model.
        gps: East, north, up of each, in meters.
        errors: Standard deviation of each according to the receiver, in meters.
        up: Unit vector in the model that is up according to the cameras. It is kept, unless a free rotation fits the
            positions much better.
    """
    if len(centers) < MIN_POSITIONS or _spread(centers) < 1e-9 or _spread(gps) < 1.0:
        return None
    upright = rotation_between(up, np.array([0.0, 0.0, 1.0]))
    levelled = _align(centers @ upright.T, gps, errors, level=True)
    free = _align(centers, gps, errors, level=False)
    if levelled is not None:
        matrix = np.array(levelled.transform)
        turned = to_rows(np.column_stack([matrix[:, :3] @ upright, matrix[:, 3]]))
        levelled = Alignment(transform=turned, residuals=levelled.residuals, inliers=levelled.inliers)
    if free is None or levelled is None:
        return free or levelled
    width = float(np.linalg.svd(np.cov(gps[free.inliers, :2].T), compute_uv=False)[1]) ** 0.5
    gain = float(np.median(levelled.residuals)) - TILT_GAIN * float(np.median(free.residuals))
    return free if gain > 0.0 and width > TILT_WIDTH * free.rms else levelled


def _align(
    source: Float64[np.ndarray, "positions 3"],
    target: Float64[np.ndarray, "positions 3"],
    errors: Float64[np.ndarray, "positions"],
    *,
    level: bool,
) -> Alignment | None:
    """Return the best of many trials (least median of residuals), refined on its inliers."""
    fit = fit_level_similarity if level else fit_similarity
    generator = np.random.default_rng(0)
    best, score = None, np.inf
    for _ in range(TRIALS):
        chosen = generator.choice(len(source), SAMPLE, replace=False)
        matrix = fit(source[chosen], target[chosen])
        if matrix is not None:
            median = float(np.median(_residuals(matrix, source, target)))
            if median < score:
                best, score = matrix, median
    if best is None:
        return None
    for _ in range(3):
        residuals = _residuals(best, source, target)
        deviations = np.maximum(errors, MAD_TO_DEVIATION * float(np.median(residuals)))
        inliers = residuals <= np.maximum(OUTLIER * deviations, MIN_OUTLIER)
        best = fit(source[inliers], target[inliers])
        if best is None:
            return None
    residuals = _residuals(best, source, target)
    return Alignment(transform=to_rows(best), residuals=residuals, inliers=inliers)


def fit_similarity(
    source: Float64[np.ndarray, "positions 3"], target: Float64[np.ndarray, "positions 3"]
) -> Float64[np.ndarray, "3 4"] | None:
    """Return the similarity [s R | t] with least squared residuals (Umeyama 1991); None for positions on a line."""
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    a, b = source - mean_source, target - mean_target
    left, singular, right = np.linalg.svd(b.T @ a)
    variance = float((a**2).sum())
    if variance <= 0.0 or singular[1] < 1e-9 * singular[0]:
        return None
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum()) / variance
    return np.column_stack([scale * rotation, mean_target - scale * rotation @ mean_source]) if scale > 0 else None


def fit_level_similarity(
    source: Float64[np.ndarray, "positions 3"], target: Float64[np.ndarray, "positions 3"]
) -> Float64[np.ndarray, "3 4"] | None:
    """Return the similarity with least squared horizontal residuals that keeps z up; None if all positions coincide.

    In the plane it is the multiplication by a complex number; the height is shifted by the median difference.
    """
    a, b = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    mean_a, mean_b = a.mean(), b.mean()
    variance = float((np.abs(a - mean_a) ** 2).sum())
    factor = complex((np.conj(a - mean_a) * (b - mean_b)).sum())
    if variance <= 0.0 or abs(factor) < 1e-12 * variance:
        return None
    factor /= variance
    shift = mean_b - factor * mean_a
    scale = abs(factor)
    height = float(np.median(target[:, 2] - scale * source[:, 2]))
    return np.array(
        [
            [factor.real, -factor.imag, 0.0, shift.real],
            [factor.imag, factor.real, 0.0, shift.imag],
            [0.0, 0.0, scale, height],
        ]
    )


def _residuals(
    matrix: Float64[np.ndarray, "3 4"], source: Float64[np.ndarray, "positions 3"], target: Float64[np.ndarray, "_ 3"]
) -> Float64[np.ndarray, "positions"]:
    return np.linalg.norm(source @ matrix[:, :3].T + matrix[:, 3] - target, axis=1)


def _spread(points: Float64[np.ndarray, "positions 3"]) -> float:
    return float(np.linalg.norm(np.ptp(points, axis=0)))
