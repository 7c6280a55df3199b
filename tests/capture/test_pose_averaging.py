"""One trajectory from many blocks: it recovers what was there before noise and before each block's own place."""

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

STRETCHES, BLOCKS = 8, 5


def random_motions(count: int, shift: float, turn: float, seed: int) -> torch.Tensor:
    tangents = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return se3_exp(tangents * torch.tensor([shift] * 3 + [turn] * 3).double())


def pivot_of(stretch: int, block: int = 0) -> torch.Tensor:
    """Stretches follow one another along x; blocks saw a little more of this or that end."""
    return torch.tensor([10.0 * stretch + block, 3.0, 1.0]).double()


def words(
    truth: torch.Tensor, noise: torch.Tensor, places: torch.Tensor | None = None
) -> Mapping[str, PoseCorrections]:
    """Every block learned four stretches in a row, as they are but for noise and its own place."""
    found = {}
    for b in range(BLOCKS):
        own = []
        for s in range(b, b + 4):
            matrix = compose(truth[s], noise[b * STRETCHES + s])
            matrix = matrix if places is None else compose(places[b], matrix)
            motion = PivotTransform.of_matrix(matrix, pivot_of(s, b))
            own.append(
                PoseCorrection(pose_segment=PoseSegment(segment="drive", number=s), frames=10 + s, motion=motion)
            )
        found[f"b{b:03d}"] = PoseCorrections(segment_length=10.0, corrections=tuple(own))
    return found


def errors(found: PoseCorrections, truth: torch.Tensor) -> tuple[float, float]:
    """Mean distance and angle (degrees) to the truth, at the stretches' middles."""
    apart = [
        PivotTransform.of_matrix(
            compose(invert(truth[each.pose_segment.number]), each.motion.matrix), pivot_of(each.pose_segment.number)
        )
        for each in found.corrections
    ]
    return sum(each.translation_norm for each in apart) / len(apart), sum(each.rotation_deg for each in apart) / len(
        apart
    )


def random_noise(seed: int) -> torch.Tensor:
    """It turns each word about its own middle, as training does: 2 cm and 0.1 degrees."""
    return torch.stack(
        [
            compose(compose(_shift(pivot_of(i % STRETCHES)), motion), _shift(-pivot_of(i % STRETCHES)))
            for i, motion in enumerate(random_motions(BLOCKS * STRETCHES, 0.02, 0.002, seed))
        ]
    )


def test_noisy_copies_give_back_what_they_are_copies_of() -> None:
    truth = random_motions(STRETCHES, 0.1, 0.005, 1)
    blocks = words(truth, random_noise(2))
    found = average_poses(blocks)
    shift, turn = errors(found.trajectory, truth)
    alone = [errors(offsets, truth) for offsets in blocks.values()]
    assert shift < 0.95 * sum(each[0] for each in alone) / BLOCKS
    assert turn < 0.95 * sum(each[1] for each in alone) / BLOCKS
    assert 0.005 < max(each.translation for each in found.residuals) < 0.1


def _shift(by: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.eye(3).double(), by[:, None]], -1)


def test_blocks_that_agree_but_for_their_place_agree() -> None:
    """Each block's world is moved as a whole; what is left of the disagreement is none."""
    truth, still = random_motions(STRETCHES, 0.1, 0.005, 1), torch.eye(3, 4).double()
    nothing = still.expand(BLOCKS * STRETCHES, 3, 4)
    places = random_motions(BLOCKS, 0.05, 0.0005, 3)
    found = average_poses(words(truth, nothing, places))
    before = average_poses(words(truth, nothing))
    apart = max(each.translation for each in found.residuals)
    moved = max(PivotTransform.of_matrix(place, pivot_of(4)).translation_norm for place in places)
    print(f"places up to {moved:.3f}, left {apart:.4f}")
    assert max(each.translation for each in before.residuals) < 1e-9
    assert apart < 0.45 * moved


def test_inertia_weighs_noise_against_displacement(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, still = random_motions(STRETCHES, 0.1, 0.005, 1), torch.eye(3, 4).double()
    noisy = [words(truth, random_noise(seed)) for seed in range(4)]

    def mean_error() -> float:
        return mean(errors(average_poses(blocks).trajectory, truth)[0] for blocks in noisy)

    def missed(seed: int) -> float:
        places = random_motions(BLOCKS, 0.05, 0.0005, seed)
        found = average_poses(words(truth, still.expand(BLOCKS * STRETCHES, 3, 4), places)).residuals
        return max(each.translation for each in found) / max(
            PivotTransform.of_matrix(each, pivot_of(4)).translation_norm for each in places
        )

    assert mean(missed(seed) for seed in range(4)) == pytest.approx(0.25, abs=0.04)
    error = mean_error()
    monkeypatch.setattr(pose_averaging, "ALIGNMENT_PRIOR", 1e6)
    assert 1.1 < error / mean_error() < 1.3


def test_one_block_keeps_its_word() -> None:
    truth = random_motions(STRETCHES, 0.1, 0.005, 1)
    blocks = words(truth, torch.eye(3, 4).double().expand(BLOCKS * STRETCHES, 3, 4))
    found = average_poses({"b000": blocks["b000"]})
    assert errors(found.trajectory, truth) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert found.block_alignments["b000"].translation_norm == pytest.approx(0.0, abs=1e-12)
    assert [each.frames for each in found.trajectory.corrections] == [10, 11, 12, 13]


def test_the_mean_is_weighted_and_turns_the_short_way() -> None:
    quarter = PivotTransform(pivot=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.3)).matrix
    other = PivotTransform(pivot=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, -0.1), translation=(1.0, 0.0, 0.0)).matrix
    origin = torch.zeros(3).double()
    _, found = mean_transform([quarter, other], [origin, origin], [1.0, 3.0])
    motion = PivotTransform.of_matrix(found, origin)
    assert motion.rotation == pytest.approx((0.0, 0.0, 0.0), abs=5e-3)
    assert motion.translation == pytest.approx((0.75, 0.0, 0.0))


def test_stretches_of_different_lengths_cannot_be_compared() -> None:
    motion = PivotTransform(pivot=(0.0, 0.0, 0.0))
    blocks = {
        name: PoseCorrections(
            segment_length=length,
            corrections=(PoseCorrection(pose_segment=PoseSegment(segment="a"), frames=1, motion=motion),),
        )
        for name, length in (("b000", 0.0), ("b001", 2.5))
    }
    with pytest.raises(CaptureError, match=r"stretches of 0, 2\.5; train them again with one --pose-segment-length"):
        average_poses(blocks)


def test_the_file_gives_back_all_of_it(tmp_path: Path) -> None:
    truth = random_motions(STRETCHES, 0.1, 0.005, 1)
    found = average_poses(words(truth, random_motions(BLOCKS * STRETCHES, 0.02, 0.002, 2)))
    write_pose_average(found, tmp_path / "poses.json")
    assert read_pose_average(tmp_path / "poses.json") == found


@pytest.mark.parametrize(
    ("text", "told"),
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
def test_a_broken_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "poses.json").write_text(text)
    with pytest.raises(CaptureError, match=told):
        read_pose_average(tmp_path / "poses.json")
