"""Pose averaging: one trajectory from the pose corrections of overlapping blocks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from scipy.spatial.transform import Rotation
from torch import Tensor

from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import CaptureError
from blocknerf.geometry import compose, invert

MAX_ITERATIONS = 200
"""Alternations between pose segments and blocks; information travels one block per iteration."""
TOLERANCE = 1e-9
"""Convergence threshold, in radians and world units."""
ALIGNMENT_PRIOR = 0.3
"""Weight of the identity in a block's alignment, as a fraction of the block's frames.

At 0, the errors of pose corrections would accumulate along a chain of blocks; at 1, most of the real displacement of
a block's world would be taken for error. At 0.3, with noise of 2 cm and 0.1 degrees, the trajectory is about a fifth
less accurate than with fixed blocks, and three quarters of the block displacement are recovered
(`test_pose_averaging`).
"""
RESIDUAL_HEADER = ("", "shared segments", "translation", "max", "rotation", "max", "block alignment", "")
RESIDUAL_CAPTION = (
    "Residuals of pose averaging: each block's correction of a pose segment compared with the common trajectory, "
    "after alignment of the block as a whole. The last two columns are that alignment, which rendering applies."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseResidual:
    """Difference between one block's pose estimate of a pose segment and the trajectory, after block alignment."""

    block: str
    pose_segment: PoseSegment
    frames: int
    translation: float
    """Distance between the two estimates at the center of the block's cameras, in world units."""
    rotation_deg: float
    """Angle between the two estimates, in degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseAverage:
    """Average of the pose corrections of all blocks."""

    trajectory: PoseCorrections
    """Correction of every pose segment, about the center of all frames that it was learned from."""
    block_alignments: Mapping[str, PivotTransform]
    """Per block, the transform from the world of the trajectory to the world that the block learned."""
    residuals: tuple[PoseResidual, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """Pose estimate of one block for one pose segment."""

    block: int
    pose_segment: int
    frames: float
    pivot: Float64[Tensor, "3"]
    matrix: Float64[Tensor, "3 4"]


def average_poses(blocks: Mapping[str, PoseCorrections]) -> PoseAverage:
    """Return the trajectory that agrees best with all blocks, weighted by their number of frames.

    A block cannot observe a common motion of all its cameras, so the worlds of blocks trained on different frames
    differ by a rigid transform. Trajectory and block alignments are computed alternately until both converge:
    corrections are averaged over the aligned blocks, alignments over the pose segments that a block shares.
    Rotations are averaged on SO(3) (chordal mean), translations at the pivots where they were learned.

    Raises:
        CaptureError: blocks were trained with pose segments of different lengths.
    """
    names, lengths = tuple(blocks), {corrections.segment_length for corrections in blocks.values()}
    if len(lengths) > 1:
        listed = ", ".join(f"{length:g}" for length in sorted(lengths))
        raise CaptureError(
            f"poses: blocks were trained with pose segments of {listed};"
            " train them again with one --pose-segment-length"
        )
    corrections = [(b, correction) for b, name in enumerate(names) for correction in blocks[name].corrections]
    keys = tuple(dict.fromkeys(correction.pose_segment for _, correction in corrections))
    numbers = {key: number for number, key in enumerate(keys)}
    estimates = [_estimate(b, numbers[correction.pose_segment], correction) for b, correction in corrections]
    alignments, means = _alternate(estimates, len(names), len(keys))
    frames = [sum(estimate.frames for estimate in estimates if estimate.pose_segment == s) for s in range(len(keys))]
    trajectory = tuple(
        PoseCorrection(pose_segment=key, frames=int(count), motion=PivotTransform.of_matrix(matrix, pivot))
        for key, count, (pivot, matrix) in zip(keys, frames, means, strict=True)
    )
    centers = [_centroid([estimate for estimate in estimates if estimate.block == b]) for b in range(len(names))]
    return PoseAverage(
        trajectory=PoseCorrections(segment_length=next(iter(lengths), 0.0), corrections=trajectory),
        block_alignments={name: PivotTransform.of_matrix(alignments[b], centers[b]) for b, name in enumerate(names)},
        residuals=tuple(_residual(names, keys, alignments, means, estimate) for estimate in estimates),
    )


def residual_rows(average: PoseAverage, *, metric: bool) -> list[tuple[str, ...]]:
    """Return rows under `RESIDUAL_HEADER`, one per block and one for all blocks.

    Lengths are in centimeters if the capture is metric. Means are over images. Only pose segments that several blocks
    refined count: there is nothing to compare the others with.
    """
    counts = Counter(residual.pose_segment for residual in average.residuals)
    shared = [residual for residual in average.residuals if counts[residual.pose_segment] > 1]
    rows = []
    for name, alignment in average.block_alignments.items():
        whole = (_length(alignment.translation_norm, metric), f"{alignment.rotation_deg:.3f}°")
        rows.append((name, *_statistics([residual for residual in shared if residual.block == name], metric), *whole))
    return [*rows, ("all", *_statistics(shared, metric), "", "")]


def mean_transform(
    matrices: Sequence[Float64[Tensor, "3 4"]], pivots: Sequence[Float64[Tensor, "3"]], weights: Sequence[float]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3 4"]]:
    """Return the mean pivot and the weighted mean of rigid transforms, each known best at its own pivot."""
    normalized = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    rotations = Rotation.from_matrix(torch.stack([matrix[:, :3] for matrix in matrices]).numpy())
    rotation = torch.from_numpy(rotations.mean(normalized.numpy()).as_matrix())
    mean_pivot = normalized @ torch.stack(list(pivots))
    moved = [matrix[:, :3] @ pivot + matrix[:, 3] for matrix, pivot in zip(matrices, pivots, strict=True)]
    translation = normalized @ torch.stack(moved) - rotation @ mean_pivot
    return mean_pivot, torch.cat([rotation, translation[:, None]], -1)


def _alternate(estimates: Sequence[_Estimate], blocks: int, pose_segments: int) -> tuple[list, list]:
    """Return the alignment of every block and the mean correction of every pose segment."""
    by_segment = [[estimate for estimate in estimates if estimate.pose_segment == s] for s in range(pose_segments)]
    by_block = [[estimate for estimate in estimates if estimate.block == b] for b in range(blocks)]
    alignments = [_identity() for _ in range(blocks)]
    means: list = []
    for _ in range(MAX_ITERATIONS):
        means = [_mean_correction(group, alignments) for group in by_segment]
        updated = [
            _alignment([e for e in group if len(by_segment[e.pose_segment]) > 1], means, group) for group in by_block
        ]
        change = max((float((a - b).abs().max()) for a, b in zip(updated, alignments, strict=True)), default=0.0)
        alignments = updated
        if change < TOLERANCE:
            break
    return alignments, means


def _mean_correction(
    group: Sequence[_Estimate], alignments: Sequence[Tensor]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3 4"]]:
    aligned = [compose(invert(alignments[estimate.block]), estimate.matrix) for estimate in group]
    return mean_transform(aligned, [estimate.pivot for estimate in group], [estimate.frames for estimate in group])


def _alignment(shared: Sequence[_Estimate], means: Sequence, group: Sequence[_Estimate]) -> Float64[Tensor, "3 4"]:
    """Return the transform from the trajectory's world to that of a block.

    Args:
        shared: Estimates of the block for pose segments that other blocks estimate too.
        means: Pivot and mean correction of every pose segment.
        group: All estimates of the block.
    """
    mean_of = [means[estimate.pose_segment][1] for estimate in shared]
    matrices = [compose(estimate.matrix, invert(mean)) for estimate, mean in zip(shared, mean_of, strict=True)]
    pivots = [mean[:, :3] @ estimate.pivot + mean[:, 3] for estimate, mean in zip(shared, mean_of, strict=True)]
    frames = [estimate.frames for estimate in shared]
    prior = ALIGNMENT_PRIOR * sum(estimate.frames for estimate in group)
    return mean_transform([*matrices, _identity()], [*pivots, _centroid(group)], [*frames, prior])[1]


def _residual(
    names: Sequence[str],
    keys: Sequence[PoseSegment],
    alignments: Sequence[Tensor],
    means: Sequence,
    estimate: _Estimate,
) -> PoseResidual:
    aligned = compose(invert(alignments[estimate.block]), estimate.matrix)
    mean = means[estimate.pose_segment][1]
    difference = PivotTransform.of_matrix(compose(invert(mean), aligned), estimate.pivot)
    return PoseResidual(
        block=names[estimate.block],
        pose_segment=keys[estimate.pose_segment],
        frames=int(estimate.frames),
        translation=difference.translation_norm,
        rotation_deg=difference.rotation_deg,
    )


def _estimate(block: int, pose_segment: int, correction: PoseCorrection) -> _Estimate:
    return _Estimate(
        block=block,
        pose_segment=pose_segment,
        frames=float(correction.frames),
        pivot=torch.tensor(correction.motion.pivot, dtype=torch.float64),
        matrix=correction.motion.matrix,
    )


def _centroid(estimates: Sequence[_Estimate]) -> Float64[Tensor, "3"]:
    frames = torch.tensor([estimate.frames for estimate in estimates], dtype=torch.float64)
    return frames @ torch.stack([estimate.pivot for estimate in estimates]) / frames.sum()


def _identity() -> Float64[Tensor, "3 4"]:
    return torch.eye(3, 4, dtype=torch.float64)


def _statistics(group: Sequence[PoseResidual], metric: bool) -> tuple[str, str, str, str, str]:
    if not group:
        return "0", "-", "-", "-", "-"
    frames = sum(residual.frames for residual in group)
    translation, rotation = (
        sum(getattr(residual, key) * residual.frames for residual in group) / frames
        for key in ("translation", "rotation_deg")
    )
    max_translation = max(residual.translation for residual in group)
    max_rotation = max(residual.rotation_deg for residual in group)
    count = len({residual.pose_segment for residual in group})
    lengths = _length(translation, metric), _length(max_translation, metric)
    return str(count), *lengths, f"{rotation:.3f}°", f"{max_rotation:.3f}°"


def _length(length: float, metric: bool) -> str:
    return f"{100.0 * length:.1f} cm" if metric else f"{length:.3g}"
