"""One trajectory from the offsets that overlapping blocks learned for the same photographs."""

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
"""Of averaging stretches and blocks in turn; a chain of blocks passes on what it knows by one block a round."""
TOLERANCE = 1e-9
"""Radians and world units: below this, a further round changes nothing."""
ALIGNMENT_PRIOR = 0.3
"""Share of its frames by which a block holds its place.

Without it, the errors of offsets would add up along a chain of blocks; at 1, most of what a block's world is really
displaced by would be taken for error. With 0.3, offsets of 2 cm and 0.1 degrees of noise come to a trajectory about
a fifth less accurate than that of blocks which hold their places altogether, and three quarters of what blocks are
displaced by are found (`test_reconciliation`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseResidual:
    """How far one block's word on one stretch is from the common trajectory, the block's own place aside."""

    block: str
    pose_segment: PoseSegment
    frames: int
    translation: float
    """Distance, in world units, of the middle of the block's cameras from where the trajectory has it."""
    rotation_deg: float
    """Angle (degrees)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseAverage:
    """What the blocks' offsets come to."""

    trajectory: PoseCorrections
    """The offset of every stretch, about the middle of all frames that blocks learned it from."""
    block_alignments: Mapping[str, PivotTransform]
    """By block, from the trajectory's world to the one the block learned: each has its own idea of the whole."""
    residuals: tuple[PoseResidual, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """What a block says of a stretch."""

    block: int
    pose_segment: int
    frames: float
    pivot: Float64[Tensor, "3"]
    matrix: Float64[Tensor, "3 4"]


def average_poses(blocks: Mapping[str, PoseCorrections]) -> PoseAverage:
    """The trajectory that agrees best with all blocks, weighted by the frames each learned from.

    A block cannot tell whether all its cameras should move, so that blocks that learned from different frames end
    with worlds that differ by a rigid motion. Trajectory and motions are found in turn until both stay: offsets
    are averaged over the blocks, each seen from its place, and places over the stretches that a block shares.
    Rotations are averaged on SO(3) (the chordal mean), shifts at the pivots where they were learned.

    Raises:
        CaptureError: blocks were trained with stretches of different lengths.
    """
    names, lengths = tuple(blocks), {offsets.segment_length for offsets in blocks.values()}
    if len(lengths) > 1:
        raise CaptureError(
            f"poses: blocks were trained with stretches of {', '.join(f'{length:g}' for length in sorted(lengths))};"
            " train them again with one --pose-segment-length"
        )
    keys = tuple(dict.fromkeys(offset.pose_segment for offsets in blocks.values() for offset in offsets.corrections))
    numbers = {key: number for number, key in enumerate(keys)}
    spoken = [(b, offset) for b, name in enumerate(names) for offset in blocks[name].corrections]
    words = [_estimate(b, numbers[offset.pose_segment], offset) for b, offset in spoken]
    places, means = _alternate(words, len(names), len(keys))
    frames = [sum(word.frames for word in words if word.pose_segment == s) for s in range(len(keys))]
    trajectory = tuple(
        PoseCorrection(pose_segment=key, frames=int(count), motion=PivotTransform.of_matrix(matrix, pivot))
        for key, count, (pivot, matrix) in zip(keys, frames, means, strict=True)
    )
    middles = [_centroid([word for word in words if word.block == b]) for b in range(len(names))]
    return PoseAverage(
        trajectory=PoseCorrections(segment_length=next(iter(lengths), 0.0), corrections=trajectory),
        block_alignments={name: PivotTransform.of_matrix(places[b], middles[b]) for b, name in enumerate(names)},
        residuals=tuple(_residual(names, keys, places, means, word) for word in words),
    )


def mean_transform(
    matrices: Sequence[Float64[Tensor, "3 4"]], pivots: Sequence[Float64[Tensor, "3"]], weights: Sequence[float]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3 4"]]:
    """The weighted mean of rigid motions that are each known best at a pivot, and the mean pivot."""
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    turns = Rotation.from_matrix(torch.stack([matrix[:, :3] for matrix in matrices]).numpy())
    turn = torch.from_numpy(turns.mean(shares.numpy()).as_matrix())
    pivot = shares @ torch.stack(list(pivots))
    images = [matrix[:, :3] @ at + matrix[:, 3] for matrix, at in zip(matrices, pivots, strict=True)]
    shift = shares @ torch.stack(images) - turn @ pivot
    return pivot, torch.cat([turn, shift[:, None]], -1)


def _alternate(words: Sequence[_Estimate], blocks: int, pose_segments: int) -> tuple[list, list]:
    of_stretch = [[word for word in words if word.pose_segment == s] for s in range(pose_segments)]
    of_block = [[word for word in words if word.block == b] for b in range(blocks)]
    places = [_identity() for _ in range(blocks)]
    means: list = []
    for _ in range(MAX_ITERATIONS):
        means = [_mean_correction(group, places) for group in of_stretch]
        moved = [
            _alignment([w for w in group if len(of_stretch[w.pose_segment]) > 1], means, group) for group in of_block
        ]
        change = max((float((a - b).abs().max()) for a, b in zip(moved, places, strict=True)), default=0.0)
        places = moved
        if change < TOLERANCE:
            break
    return places, means


def _mean_correction(
    group: Sequence[_Estimate], places: Sequence[Tensor]
) -> tuple[Float64[Tensor, "3"], Float64[Tensor, "3 4"]]:
    seen = [compose(invert(places[word.block]), word.matrix) for word in group]
    return mean_transform(seen, [word.pivot for word in group], [word.frames for word in group])


def _alignment(shared: Sequence[_Estimate], means: Sequence, everything: Sequence[_Estimate]) -> Float64[Tensor, "3 4"]:
    """From the trajectory's world to that of a block, by its words on what others speak of too."""
    seen = [means[word.pose_segment][1] for word in shared]
    matrices = [compose(word.matrix, invert(mean)) for word, mean in zip(shared, seen, strict=True)]
    pivots = [mean[:, :3] @ word.pivot + mean[:, 3] for word, mean in zip(shared, seen, strict=True)]
    frames = [word.frames for word in shared]
    hold = ALIGNMENT_PRIOR * sum(word.frames for word in everything)
    return mean_transform([*matrices, _identity()], [*pivots, _centroid(everything)], [*frames, hold])[1]


def _residual(
    names: Sequence[str], keys: Sequence[PoseSegment], places: Sequence[Tensor], means: Sequence, word: _Estimate
) -> PoseResidual:
    seen = compose(invert(places[word.block]), word.matrix)
    apart = PivotTransform.of_matrix(compose(invert(means[word.pose_segment][1]), seen), word.pivot)
    return PoseResidual(
        block=names[word.block],
        pose_segment=keys[word.pose_segment],
        frames=int(word.frames),
        translation=apart.translation_norm,
        rotation_deg=apart.rotation_deg,
    )


def _estimate(block: int, stretch: int, offset: PoseCorrection) -> _Estimate:
    return _Estimate(
        block=block,
        pose_segment=stretch,
        frames=float(offset.frames),
        pivot=torch.tensor(offset.motion.pivot, dtype=torch.float64),
        matrix=offset.motion.matrix,
    )


def _centroid(words: Sequence[_Estimate]) -> Float64[Tensor, "3"]:
    frames = torch.tensor([word.frames for word in words], dtype=torch.float64)
    return frames @ torch.stack([word.pivot for word in words]) / frames.sum()


def _identity() -> Float64[Tensor, "3 4"]:
    return torch.eye(3, 4, dtype=torch.float64)
