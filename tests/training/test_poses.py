"""Pose refinement: gradients, prior, gauge, smoothness, and recovery of displaced segments."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from blocknerf.cameras import Cameras, RayBundle, look_at
from blocknerf.capture.capture import Capture
from blocknerf.capture.frame import pose_from_flat
from blocknerf.capture.pose_corrections import apply_corrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.geometry import compose, invert, se3_exp
from blocknerf.training.poses import PRIOR_FRACTION, PoseRefiner, _solve_block_tridiagonal, active_levels, prior_weight
from blocknerf.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
LENGTH = 3.0
FRAMES = 12


def cameras() -> Cameras:
    """Return cameras around a point far from the world origin."""
    generator = torch.Generator().manual_seed(3)
    eyes = torch.tensor([40.0, -20.0, 2.0]) + 3.0 * torch.randn(FRAMES, 3, generator=generator)
    poses = look_at(eyes, eyes + torch.randn(FRAMES, 3, generator=generator))
    return Cameras.pinhole(poses.double(), focal=20.0, width=24, height=16)


def refiner(count: int = 3) -> PoseRefiner:
    return PoseRefiner(cameras(), [PoseSegment(segment=f"segment{i % count}") for i in range(FRAMES)], LENGTH)


def spatial_color(points: torch.Tensor) -> torch.Tensor:
    """Return a smooth color for every point in space."""
    return torch.sin(0.4 * points @ torch.tensor([[1.0, 0.3, -0.7], [0.2, -1.1, 0.5], [0.6, 0.9, 1.0]]).double() + 1.0)


def random_rays(cameras: Cameras, frames: torch.Tensor) -> RayBundle:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.rand(len(frames), 2, generator=generator).double() * torch.tensor([24.0, 16.0])
    return cameras.rays(frames, pixels)


def ray_color(rays: RayBundle) -> torch.Tensor:
    """Return the color of rays that end after five units; it depends on the direction as well."""
    return spatial_color(rays.origins + 5.0 * rays.directions) + 0.3 * spatial_color(20.0 * rays.directions)


def color_loss(rays: RayBundle, target: torch.Tensor) -> torch.Tensor:
    return (ray_color(rays) - target).square().mean()


def test_ray_gradients_match_finite_differences() -> None:
    poses, frames = refiner(), torch.arange(FRAMES).repeat(4)
    rays, target = random_rays(poses.input_cameras, frames).requires_grad_copy(), torch.zeros(len(frames), 3).double()
    color_loss(rays, target).backward()
    gradient = torch.zeros(3, 6, dtype=torch.float64).index_add_(0, frames % 3, poses._ray_gradients(rays, frames))
    step = 1e-5
    for segment in range(3):
        for axis in range(6):
            values = []
            for sign in (1.0, -1.0):
                poses.tangents = torch.zeros(3, 6, dtype=torch.float64)
                poses.tangents[segment, axis] = sign * step
                values.append(float(color_loss(random_rays(poses.cameras(), frames), target)))
            expected = (values[0] - values[1]) / (2 * step)
            assert float(gradient[segment, axis]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_prior_decays_exponentially_between_the_weights_of_the_paper() -> None:
    weights = [prior_weight(fraction * PRIOR_FRACTION) for fraction in (0.0, 1 / 6, 0.5, 5 / 6, 1.0)]
    assert weights == pytest.approx([1e5, 1e4, 1e2, 1.0, 0.1])
    assert prior_weight(1.0) == prior_weight(PRIOR_FRACTION)


def test_prior_is_strong_at_the_start_and_weak_at_the_end() -> None:
    remaining = []
    for progress in (0.0, 1.0):
        poses, frames = refiner(), torch.arange(FRAMES)
        start = 1e-3 * (
            poses._gauge_projection @ torch.randn(18, generator=torch.Generator().manual_seed(1)).double()
        ).view(3, 6)
        poses.tangents = start.clone()
        rays = random_rays(poses.cameras(), frames).requires_grad_copy()
        color_loss(rays, torch.zeros(FRAMES, 3).double()).backward()
        for tensor in (rays.origins, rays.directions):
            assert tensor.grad is not None
            tensor.grad *= 1e-3
        poses.update(rays, frames, squared_error=1e-2, update=0, progress=progress)
        remaining.append(float((poses.tangents * start).sum() / start.square().sum()))
    assert remaining[0] < 0.5
    assert remaining[1] > 0.8


def test_running_averages_are_bias_corrected() -> None:
    """The first update is as long as one after many equal updates."""
    norms = []
    for earlier_updates in (0, 60):
        poses, frames = refiner(), torch.arange(FRAMES)
        rays = random_rays(poses.cameras(), frames).requires_grad_copy()
        color_loss(rays, torch.zeros(FRAMES, 3).double()).backward()
        for tensor in (rays.origins, rays.directions):
            assert tensor.grad is not None
            tensor.grad *= 1e-4  # too short for the maximum update to matter
        for update in range(earlier_updates + 1):
            poses.tangents = torch.zeros(3, 6, dtype=torch.float64)
            poses.update(rays, frames, squared_error=1e-2, update=update, progress=1.0)
        norms.append(float(poses.tangents.norm()))
    assert norms[0] > 0.0
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_levels_fade_in_from_coarse_to_fine() -> None:
    levels = [active_levels(progress / 100, 8) for progress in range(100)]
    fading = [level for level in levels if level is not None]
    assert fading == sorted(fading)
    assert fading[0] == 3.0
    assert max(b - a for a, b in pairwise(fading)) < 0.2
    assert levels[-1] is None
    assert active_levels(0.0, 2) == 3.0  # activates all levels if there are fewer


def test_gauge_projection_removes_the_common_motion() -> None:
    """A small common motion of all cameras is removed from the tangents; relative motions are kept."""
    poses = refiner()
    common = se3_exp(torch.tensor([1e-4, -2e-4, 3e-4, 2e-5, -1e-5, 3e-5], dtype=torch.float64))
    tangents = []
    for pivot in poses.pivots:
        motion = PivotTransform.of_matrix(common, pivot)
        tangents.append(torch.tensor([x / LENGTH for x in motion.translation] + list(motion.rotation)))
    common_tangents = torch.stack(tangents).double()
    assert (poses._gauge_projection @ common_tangents.flatten()).abs().max() < 1e-4 * common_tangents.abs().max()
    relative = poses._gauge_projection @ torch.randn(18, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(poses._gauge_projection @ relative, relative)
    weights = poses.counts / poses.counts.sum()
    assert (weights @ relative.view(3, 6)[:, :3]).abs().max() < 1e-9


def test_single_pose_segment_is_not_refined(ball: Any, make_trainer: MakeTrainer) -> None:
    assert refiner(1)._gauge_projection.abs().max() < 1e-9
    trainer = make_trainer(ball.clean, steps=10, pose_refinement=True)
    trainer.train_step()
    assert trainer.poses is not None
    assert not trainer.poses.has_multiple
    assert trainer.field.base.active_levels is None
    (correction,) = trainer.poses.corrections(0.0).corrections
    assert (correction.motion.translation_norm, correction.motion.rotation_deg, correction.frames) == (0.0, 0.0, 13)


def max_tangent(poses: PoseRefiner) -> float:
    """Return the largest tangent component without the common motion."""
    tangents = (poses._gauge_projection @ poses.tangents.flatten()).view_as(poses.tangents)
    return float(tangents.abs().max())


def test_poses_converge_in_a_fixed_scene() -> None:
    """A few Gauss-Newton steps suffice, without a learning rate."""
    poses, frames = refiner(), torch.arange(FRAMES).repeat(40)
    target = ray_color(random_rays(poses.input_cameras, frames))
    start = 0.03 * torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).double()
    poses.tangents = (poses._gauge_projection @ start.flatten()).view_as(start)
    before = max_tangent(poses)
    for update in range(60):
        rays = random_rays(poses.cameras(), frames).requires_grad_copy()
        loss = color_loss(rays, target)
        loss.backward()
        error = max(float(loss.detach()), 1e-8)
        poses.update(rays, frames, squared_error=error, update=update, progress=0.5)
    assert max_tangent(poses) < 0.1 * before


def displace_second_segment(capture: Capture, offset: PivotTransform) -> Capture:
    """Split even and odd frames into two segments and displace the second."""
    frames = []
    for i, frame in enumerate(capture.frames):
        pose = torch.tensor(frame.camera_to_world, dtype=torch.float64)
        if i % 2:
            pose = compose(offset.matrix, pose)
        rows = pose_from_flat(pose.flatten().tolist())
        frames.append(replace(frame, segment=f"segment{i % 2}", camera_to_world=rows))
    return replace(capture, frames=tuple(frames))


def segment_error(capture: Capture, truth: Capture) -> tuple[float, float]:
    """Return translation and rotation (degrees) of one segment relative to the other, compared to the true poses."""
    motions = []
    for segment in (0, 1):
        poses, true = (c.cameras().camera_to_world[segment::2].double() for c in (capture, truth))
        to_true = compose(true[:1], invert(poses[:1]))[0]
        motions.append(PivotTransform.of_matrix(to_true, true[:, :, 3].mean(0)))
    (a, b), pivot = motions, torch.zeros(3, dtype=torch.float64)
    relative = PivotTransform.of_matrix(compose(a.matrix, invert(b.matrix)), pivot)
    return relative.translation_norm, relative.rotation_deg


def test_training_recovers_a_displaced_segment(ball: Any, make_trainer: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    displaced = displace_second_segment(ball.clean, offset)
    trainer = make_trainer(displaced, steps=200, pose_refinement=True)
    trainer.train_step()
    assert trainer.field.base.active_levels == pytest.approx(3.0)
    while trainer.step < 200:
        trainer.train_step()
    assert trainer.field.base.active_levels is None
    assert trainer.poses is not None
    before, after = (
        segment_error(displaced, ball.clean),
        segment_error(apply_corrections(displaced, trainer.poses.corrections(0.0)), ball.clean),
    )
    print(f"before {before[0]:.3f} and {before[1]:.2f} degrees, after {after[0]:.3f} and {after[1]:.2f} degrees")
    assert after[0] < 0.4 * before[0]
    assert after[1] < 1.0


def test_new_round_resets_the_field_and_keeps_the_poses(ball: Any, make_trainer: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    options = {"pose_refinement": True, "pose_restarts": 2}
    trainer = make_trainer(displace_second_segment(ball.clean, offset), steps=60, **options)
    while trainer.step < 60:
        trainer.train_step()
    assert trainer.poses is not None
    table, motions = trainer.field.base.table, trainer.poses.motions
    trained_scale = float(table.detach().abs().max())
    trainer.train_step()
    assert float(table.detach().abs().max()) < 0.1 * trained_scale
    assert torch.equal(trainer.poses.previous_motions, motions)
    while trainer.step < trainer.config.total_steps:
        trainer.train_step()
    assert trainer.step == 120
    assert not torch.equal(trainer.poses.motions, motions)


def test_start_round_does_not_change_the_poses() -> None:
    poses = refiner()
    one_update(poses, torch.arange(FRAMES), 1.0)
    camera_to_world, expected = poses.cameras().camera_to_world, poses.corrections(0.0)
    poses.start_round()
    assert not poses.tangents.any()
    torch.testing.assert_close(poses.cameras().camera_to_world, camera_to_world)
    for after, before in zip(poses.corrections(0.0).corrections, expected.corrections, strict=True):
        torch.testing.assert_close(after.motion.matrix, before.motion.matrix)
    restored = refiner()
    restored.restore(poses.state())
    torch.testing.assert_close(restored.pivots, poses.pivots)
    torch.testing.assert_close(restored.cameras().camera_to_world, camera_to_world)


def test_poses_are_fixed_without_refinement(ball: Any, make_trainer: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    trainer = make_trainer(displace_second_segment(ball.clean, offset), steps=10, pose_refinement=False)
    trainer.train_step()
    assert trainer.poses is None
    poses, given = trainer.pixels.cameras.camera_to_world, trainer.pixels.input_cameras.camera_to_world
    assert torch.equal(poses, given)


def test_segments_are_divided_into_pose_segments(ball: Any, make_trainer: MakeTrainer) -> None:
    """The path around the ball is 23 units long, including height changes; frames are in file order."""
    trainer = make_trainer(ball.clean, steps=10, pose_refinement=True, pose_segment_length=6.0)
    assert trainer.poses is not None
    assert [pose_segment.number for pose_segment in trainer.poses.pose_segments] == [0, 1, 2, 3]


def chain_refiner(frames_per_segment: int = FRAMES // 4) -> PoseRefiner:
    """Return the refiner of four consecutive pose segments of one segment."""
    return PoseRefiner(
        cameras(), [PoseSegment(segment="a", number=i // frames_per_segment) for i in range(FRAMES)], LENGTH
    )


def one_update(poses: PoseRefiner, frames: torch.Tensor, progress: float) -> None:
    rays = random_rays(poses.cameras(), frames).requires_grad_copy()
    color_loss(rays, torch.zeros(len(frames), 3).double()).backward()
    for tensor in (rays.origins, rays.directions):
        assert tensor.grad is not None
        tensor.grad *= 1e-4  # too short for the maximum update to matter
    poses.update(rays, frames, squared_error=1e-2, update=0, progress=progress)


def test_pose_segment_without_rays_follows_its_neighbors() -> None:
    """A pose segment without rays moves by the weighted mean of its neighbors; without neighbors it does not move."""
    frames = torch.tensor([i for i in range(FRAMES) if i // 3 != 1]).repeat(4)
    coupled, separate = (
        chain_refiner(),
        PoseRefiner(cameras(), [PoseSegment(segment=f"d{i // 3}") for i in range(FRAMES)], LENGTH),
    )
    for poses in (coupled, separate):
        poses._gauge_projection = torch.eye(24, dtype=torch.float64)  # so that only the smoothness prior can move it
        one_update(poses, frames, progress=1.0)
    assert separate.tangents[1].abs().max() == 0.0
    before, after, weight = *coupled._smoothness[:2], coupled.counts[1] / coupled.counts.sum()
    expected = (before * coupled.tangents[0] + after * coupled.tangents[2]) / (before + after + weight)
    assert torch.allclose(coupled.tangents[1], expected)
    assert expected.norm() > 0.1 * coupled.tangents[[0, 2]].norm()


def test_only_consecutive_pose_segments_are_coupled() -> None:
    numbered = [("a", 0), ("a", 1), ("a", 3), ("b", 4)]
    pose_segments = [PoseSegment(segment=name, number=number) for name, number in numbered for _ in range(3)]
    smoothness = PoseRefiner(cameras(), pose_segments[::-1], LENGTH)._smoothness
    assert smoothness.count_nonzero() == 1
    assert smoothness[0] > 0.0


def test_prior_steps_do_not_overshoot() -> None:
    """Step sizes above 1 apply to the color gradient only, since the field cancels part of its effect."""
    for poses in (refiner(), chain_refiner()):
        count = len(poses.pose_segments)
        noise = torch.randn(6 * count, generator=torch.Generator().manual_seed(1)).double()
        start = 1e-4 * (poses._gauge_projection @ noise).view(count, 6)
        poses.tangents = start.clone()
        frames = torch.arange(FRAMES)
        rays = random_rays(poses.cameras(), frames).requires_grad_copy()
        (0.0 * color_loss(rays, torch.zeros(FRAMES, 3).double())).backward()
        poses.update(rays, frames, squared_error=1e-2, update=0, progress=0.0)
        assert float((poses.tangents * start).sum()) > -1e-3 * float(start.square().sum())


def test_block_tridiagonal_solver_matches_a_dense_solver() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(5, 6, 6, generator=generator).double()
    diagonal = factor @ factor.transpose(1, 2) + 12.0 * torch.eye(6).double()
    off_diagonal, right = -torch.rand(4, generator=generator).double(), torch.randn(5, 6, generator=generator).double()
    coupling = torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)
    dense = torch.block_diag(*diagonal) + torch.kron(coupling, torch.eye(6).double())
    assert torch.allclose(
        _solve_block_tridiagonal(diagonal, off_diagonal, right).flatten(), torch.linalg.solve(dense, right.flatten())
    )


def test_only_the_color_loss_updates_poses(ball: Any, make_trainer: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    tangents = []
    for weight in (0.0, 100.0):
        trainer = make_trainer(
            displace_second_segment(ball.clean, offset), steps=8, pose_refinement=True, distortion_weight=weight
        )
        trainer.train_step()
        assert trainer.poses is not None
        tangents.append(trainer.poses.tangents)
    assert tangents[0].abs().max() > 0.0
    assert torch.equal(*tangents)
