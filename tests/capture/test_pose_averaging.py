"""Pose averaging recovers the true corrections from noisy estimates of displaced blocks."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import pytest
import torch

from blocknerf.capture import pose_averaging
from blocknerf.capture.pose_averaging import average_poses, mean_transform
from blocknerf.capture.pose_averaging_file import read_pose_average, write_pose_average
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.errors import CaptureError
from blocknerf.geometry import compose, invert, se3_exp

POSE_SEGMENTS, BLOCKS = 8, 5


def random_motions(count: int, translation: float, rotation: float, seed: int) -> torch.Tensor:
    tangents = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return se3_exp(tangents * torch.tensor([translation] * 3 + [rotation] * 3).double())


def pivot_of(pose_segment: int, block: int = 0) -> torch.Tensor:
    """Pose segments follow each other along x; the pivot shifts with the block."""
    return torch.tensor([10.0 * pose_segment + block, 3.0, 1.0]).double()


def block_corrections(
    truth: torch.Tensor, noise: torch.Tensor, alignments: torch.Tensor | None = None
) -> Mapping[str, PoseCorrections]:
    """Four consecutive pose segments per block: the truth with noise and the alignment of the block."""
    blocks = {}
    for b in range(BLOCKS):
        corrections = []
        for s in range(b, b + 4):
            matrix = compose(truth[s], noise[b * POSE_SEGMENTS + s])
            matrix = matrix if alignments is None else compose(alignments[b], matrix)
            motion = PivotTransform.of_matrix(matrix, pivot_of(s, b))
            corrections.append(
                PoseCorrection(pose_segment=PoseSegment(segment="first", number=s), frames=10 + s, motion=motion)
            )
        blocks[f"b{b:03d}"] = PoseCorrections(segment_length=10.0, corrections=tuple(corrections))
    return blocks


def errors(estimate: PoseCorrections, truth: torch.Tensor) -> tuple[float, float]:
    """Mean distance and angle (degrees) to the truth, at the centers of the pose segments."""
    differences = [
        PivotTransform.of_matrix(
            compose(invert(truth[item.pose_segment.number]), item.motion.matrix), pivot_of(item.pose_segment.number)
        )
        for item in estimate.corrections
    ]
    return mean(item.translation_norm for item in differences), mean(item.rotation_deg for item in differences)


def random_noise(seed: int) -> torch.Tensor:
    """Noise of 2 cm and 0.1 degrees about the center of each pose segment, as in training."""
    return torch.stack(
        [
            compose(
                compose(_translation(pivot_of(i % POSE_SEGMENTS)), motion), _translation(-pivot_of(i % POSE_SEGMENTS))
            )
            for i, motion in enumerate(random_motions(BLOCKS * POSE_SEGMENTS, 0.02, 0.002, seed))
        ]
    )


def test_averaging_reduces_noise() -> None:
    truth = random_motions(POSE_SEGMENTS, 0.1, 0.005, 1)
    blocks = block_corrections(truth, random_noise(2))
    average = average_poses(blocks)
    translation, rotation = errors(average.trajectory, truth)
    single = [errors(corrections, truth) for corrections in blocks.values()]
    assert translation < 0.95 * sum(error[0] for error in single) / BLOCKS
    assert rotation < 0.95 * sum(error[1] for error in single) / BLOCKS
    assert 0.005 < max(item.translation for item in average.residuals) < 0.1


def _translation(offset: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.eye(3).double(), offset[:, None]], -1)


def test_rigidly_displaced_blocks_agree_after_alignment() -> None:
    """The world of each block is displaced as a whole; alignment removes most of the residuals."""
    truth, identity = random_motions(POSE_SEGMENTS, 0.1, 0.005, 1), torch.eye(3, 4).double()
    no_noise = identity.expand(BLOCKS * POSE_SEGMENTS, 3, 4)
    alignments = random_motions(BLOCKS, 0.05, 0.0005, 3)
    average = average_poses(block_corrections(truth, no_noise, alignments))
    undisplaced = average_poses(block_corrections(truth, no_noise))
    residual = max(item.translation for item in average.residuals)
    moved = max(PivotTransform.of_matrix(alignment, pivot_of(4)).translation_norm for alignment in alignments)
    print(f"displacement up to {moved:.3f}, residual {residual:.4f}")
    assert max(item.translation for item in undisplaced.residuals) < 1e-9
    assert residual < 0.45 * moved


def test_alignment_prior_balances_noise_and_displacement(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, identity = random_motions(POSE_SEGMENTS, 0.1, 0.005, 1), torch.eye(3, 4).double()
    noisy = [block_corrections(truth, random_noise(seed)) for seed in range(4)]

    def mean_error() -> float:
        return mean(errors(average_poses(blocks).trajectory, truth)[0] for blocks in noisy)

    def residual_fraction(seed: int) -> float:
        alignments = random_motions(BLOCKS, 0.05, 0.0005, seed)
        average = average_poses(
            block_corrections(truth, identity.expand(BLOCKS * POSE_SEGMENTS, 3, 4), alignments)
        ).residuals
        return max(item.translation for item in average) / max(
            PivotTransform.of_matrix(item, pivot_of(4)).translation_norm for item in alignments
        )

    assert mean(residual_fraction(seed) for seed in range(4)) == pytest.approx(0.25, abs=0.04)
    error = mean_error()
    monkeypatch.setattr(pose_averaging, "ALIGNMENT_PRIOR", 1e6)
    assert 1.1 < error / mean_error() < 1.3


def test_a_single_block_is_not_aligned() -> None:
    truth = random_motions(POSE_SEGMENTS, 0.1, 0.005, 1)
    blocks = block_corrections(truth, torch.eye(3, 4).double().expand(BLOCKS * POSE_SEGMENTS, 3, 4))
    average = average_poses({"b000": blocks["b000"]})
    assert errors(average.trajectory, truth) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert average.block_alignments["b000"].translation_norm == pytest.approx(0.0, abs=1e-12)
    assert [item.frames for item in average.trajectory.corrections] == [10, 11, 12, 13]


def test_the_mean_transform_is_weighted() -> None:
    first = PivotTransform(pivot=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.3)).matrix
    second = PivotTransform(pivot=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, -0.1), translation=(1.0, 0.0, 0.0)).matrix
    origin = torch.zeros(3).double()
    _, average = mean_transform([first, second], [origin, origin], [1.0, 3.0])
    motion = PivotTransform.of_matrix(average, origin)
    assert motion.rotation == pytest.approx((0.0, 0.0, 0.0), abs=5e-3)
    assert motion.translation == pytest.approx((0.75, 0.0, 0.0))


def test_pose_segments_of_different_lengths_raise() -> None:
    motion = PivotTransform(pivot=(0.0, 0.0, 0.0))
    blocks = {
        name: PoseCorrections(
            segment_length=length,
            corrections=(PoseCorrection(pose_segment=PoseSegment(segment="a"), frames=1, motion=motion),),
        )
        for name, length in (("b000", 0.0), ("b001", 2.5))
    }
    with pytest.raises(
        CaptureError, match=r"pose segments of 0, 2\.5; train them again with one --pose-segment-length"
    ):
        average_poses(blocks)


def test_the_file_round_trips(tmp_path: Path) -> None:
    truth = random_motions(POSE_SEGMENTS, 0.1, 0.005, 1)
    average = average_poses(block_corrections(truth, random_motions(BLOCKS * POSE_SEGMENTS, 0.02, 0.002, 2)))
    write_pose_average(average, tmp_path / "poses.json")
    assert read_pose_average(tmp_path / "poses.json") == average


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"format": "blocknerf.pose-corrections/1"}',
            r"'blocknerf\.pose-corrections/1' is not blocknerf\.pose-average/1; run 'blocknerf align' again$",
        ),
        (
            '{"format": "blocknerf.pose-average/1"}',
            r"segment_length is missing; add it, or run 'blocknerf align' again$",
        ),
    ],
)
def test_a_broken_file_raises(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "poses.json").write_text(text)
    with pytest.raises(CaptureError, match=message):
        read_pose_average(tmp_path / "poses.json")
