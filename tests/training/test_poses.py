"""Offsets of stretches: their gradients, their prior, what is held fixed, and that they find what was displaced."""

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
    """Around a place far from the world's origin."""
    generator = torch.Generator().manual_seed(3)
    eyes = torch.tensor([40.0, -20.0, 2.0]) + 3.0 * torch.randn(FRAMES, 3, generator=generator)
    poses = look_at(eyes, eyes + torch.randn(FRAMES, 3, generator=generator))
    return Cameras.pinhole(poses.double(), focal=20.0, width=24, height=16)


def refiner(count: int = 3) -> PoseRefiner:
    return PoseRefiner(cameras(), [PoseSegment(segment=f"drive{i % count}") for i in range(FRAMES)], LENGTH)


def wave(points: torch.Tensor) -> torch.Tensor:
    """A smooth color of every point in space."""
    return torch.sin(0.4 * points @ torch.tensor([[1.0, 0.3, -0.7], [0.2, -1.1, 0.5], [0.6, 0.9, 1.0]]).double() + 1.0)


def rays_of(cameras: Cameras, frames: torch.Tensor) -> RayBundle:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.rand(len(frames), 2, generator=generator).double() * torch.tensor([24.0, 16.0])
    return cameras.rays(frames, pixels)


def seen(rays: RayBundle) -> torch.Tensor:
    """What rays that end after five units show; it depends on their directions too."""
    return wave(rays.origins + 5.0 * rays.directions) + 0.3 * wave(20.0 * rays.directions)


def squared_errors(rays: RayBundle, target: torch.Tensor) -> torch.Tensor:
    return (seen(rays) - target).square().mean()


def test_the_gradient_of_a_posed_ray_is_that_of_finite_differences() -> None:
    poses, frames = refiner(), torch.arange(FRAMES).repeat(4)
    rays, target = rays_of(poses.input_cameras, frames).requires_grad_copy(), torch.zeros(len(frames), 3).double()
    squared_errors(rays, target).backward()
    found = torch.zeros(3, 6, dtype=torch.float64).index_add_(0, frames % 3, poses._ray_gradients(rays, frames))
    step = 1e-5
    for stretch in range(3):
        for axis in range(6):
            values = []
            for sign in (1.0, -1.0):
                poses.tangents = torch.zeros(3, 6, dtype=torch.float64)
                poses.tangents[stretch, axis] = sign * step
                values.append(float(squared_errors(rays_of(poses.cameras(), frames), target)))
            slope = (values[0] - values[1]) / (2 * step)
            assert float(found[stretch, axis]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_the_prior_falls_geometrically_between_the_papers_weights() -> None:
    falling = [prior_weight(share * PRIOR_FRACTION) for share in (0.0, 1 / 6, 0.5, 5 / 6, 1.0)]
    assert falling == pytest.approx([1e5, 1e4, 1e2, 1.0, 0.1])
    assert prior_weight(1.0) == prior_weight(PRIOR_FRACTION)


def test_the_prior_holds_offsets_at_first_and_hardly_at_the_end() -> None:
    kept = []
    for progress in (0.0, 1.0):
        poses, frames = refiner(), torch.arange(FRAMES)
        start = 1e-3 * (
            poses._gauge_projection @ torch.randn(18, generator=torch.Generator().manual_seed(1)).double()
        ).view(3, 6)
        poses.tangents = start.clone()
        rays = rays_of(poses.cameras(), frames).requires_grad_copy()
        squared_errors(rays, torch.zeros(FRAMES, 3).double()).backward()
        for part in (rays.origins, rays.directions):
            assert part.grad is not None
            part.grad *= 1e-3
        poses.update(rays, frames, squared_error=1e-2, update=0, progress=progress)
        kept.append(float((poses.tangents * start).sum() / start.square().sum()))
    assert kept[0] < 0.5
    assert kept[1] > 0.8


def test_the_first_update_is_as_long_as_one_that_has_seen_many() -> None:
    """Averages that begin at zero are corrected for it."""
    lengths = []
    for seen_before in (0, 60):
        poses, frames = refiner(), torch.arange(FRAMES)
        rays = rays_of(poses.cameras(), frames).requires_grad_copy()
        squared_errors(rays, torch.zeros(FRAMES, 3).double()).backward()
        for part in (rays.origins, rays.directions):
            assert part.grad is not None
            part.grad *= 1e-4  # so short that the bound on updates does not matter
        for update in range(seen_before + 1):
            poses.tangents = torch.zeros(3, 6, dtype=torch.float64)
            poses.update(rays, frames, squared_error=1e-2, update=update, progress=1.0)
        lengths.append(float(poses.tangents.norm()))
    assert lengths[0] > 0.0
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)


def test_levels_fade_in_one_after_another() -> None:
    levels = [active_levels(progress / 100, 8) for progress in range(100)]
    on = [level for level in levels if level is not None]
    assert on == sorted(on)
    assert on[0] == 3.0
    assert max(b - a for a, b in pairwise(on)) < 0.2
    assert levels[-1] is None
    assert active_levels(0.0, 2) == 3.0  # which turns on all of fewer levels


def test_what_stretches_have_in_common_is_held() -> None:
    """A small motion of all cameras together is taken out of tangents; another is left as it is."""
    poses = refiner()
    common = se3_exp(torch.tensor([1e-4, -2e-4, 3e-4, 2e-5, -1e-5, 3e-5], dtype=torch.float64))
    tangents = []
    for pivot in poses.pivots:
        motion = PivotTransform.of_matrix(common, pivot)
        tangents.append(torch.tensor([x / LENGTH for x in motion.translation] + list(motion.rotation)))
    together = torch.stack(tangents).double()
    assert (poses._gauge_projection @ together.flatten()).abs().max() < 1e-4 * together.abs().max()
    alone = poses._gauge_projection @ torch.randn(18, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(poses._gauge_projection @ alone, alone)
    shares = poses.counts / poses.counts.sum()
    assert (shares @ alone.view(3, 6)[:, :3]).abs().max() < 1e-9


def test_one_stretch_alone_has_nothing_to_learn(ball: Any, trainer_of: MakeTrainer) -> None:
    assert refiner(1)._gauge_projection.abs().max() < 1e-9
    trainer = trainer_of(ball.clean, steps=10, pose_refinement=True)
    trainer.train_step()
    assert trainer.poses is not None
    assert not trainer.poses.has_multiple
    assert trainer.field.base.active_levels is None
    (offset,) = trainer.poses.corrections(0.0).corrections
    assert (offset.motion.translation_norm, offset.motion.rotation_deg, offset.frames) == (0.0, 0.0, 13)


def displacement(poses: PoseRefiner) -> float:
    """Largest distance between cameras and where they should be, what is common to all taken out."""
    tangents = (poses._gauge_projection @ poses.tangents.flatten()).view_as(poses.tangents)
    return float(tangents.abs().max())


def test_stretches_find_back_to_where_the_scene_is_known() -> None:
    """With the scene as it is, a few steps suffice; they need no learning rate."""
    poses, frames = refiner(), torch.arange(FRAMES).repeat(40)
    target = seen(rays_of(poses.input_cameras, frames))
    start = 0.03 * torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).double()
    poses.tangents = (poses._gauge_projection @ start.flatten()).view_as(start)
    before = displacement(poses)
    for update in range(60):
        rays = rays_of(poses.cameras(), frames).requires_grad_copy()
        loss = squared_errors(rays, target)
        loss.backward()
        error = max(float(loss.detach()), 1e-8)
        poses.update(rays, frames, squared_error=error, update=update, progress=0.5)
    assert displacement(poses) < 0.1 * before


def in_two_drives(capture: Capture, offset: PivotTransform) -> Capture:
    """Even and odd photographs are of two drives, and the second is displaced."""
    frames = []
    for i, frame in enumerate(capture.frames):
        pose = torch.tensor(frame.camera_to_world, dtype=torch.float64)
        if i % 2:
            pose = compose(offset.matrix, pose)
        rows = pose_from_flat(pose.flatten().tolist())
        frames.append(replace(frame, segment=f"drive{i % 2}", camera_to_world=rows))
    return replace(capture, frames=tuple(frames))


def apart(capture: Capture, truth: Capture) -> tuple[float, float]:
    """By how much one drive is shifted and turned (degrees) against the other."""
    motions = []
    for drive in (0, 1):
        poses, true = (c.cameras().camera_to_world[drive::2].double() for c in (capture, truth))
        back = compose(true[:1], invert(poses[:1]))[0]
        motions.append(PivotTransform.of_matrix(back, true[:, :, 3].mean(0)))
    (a, b), middle = motions, torch.zeros(3, dtype=torch.float64)
    relative = PivotTransform.of_matrix(compose(a.matrix, invert(b.matrix)), middle)
    return relative.translation_norm, relative.rotation_deg


def test_a_displaced_drive_is_found_back_in_training(ball: Any, trainer_of: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    displaced = in_two_drives(ball.clean, offset)
    trainer = trainer_of(displaced, steps=200, pose_refinement=True)
    trainer.train_step()
    assert trainer.field.base.active_levels == pytest.approx(3.0)
    while trainer.step < 200:
        trainer.train_step()
    assert trainer.field.base.active_levels is None
    assert trainer.poses is not None
    before, after = (
        apart(displaced, ball.clean),
        apart(apply_corrections(displaced, trainer.poses.corrections(0.0)), ball.clean),
    )
    print(f"before {before[0]:.3f} and {before[1]:.2f} degrees, after {after[0]:.3f} and {after[1]:.2f} degrees")
    assert after[0] < 0.4 * before[0]
    assert after[1] < 1.0


def test_another_round_forgets_the_field_and_goes_on_from_its_poses(ball: Any, trainer_of: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    choices = {"pose_refinement": True, "pose_restarts": 2}
    trainer = trainer_of(in_two_drives(ball.clean, offset), steps=60, **choices)
    while trainer.step < 60:
        trainer.train_step()
    assert trainer.poses is not None
    table, found = trainer.field.base.table, trainer.poses.motions
    learned = float(table.detach().abs().max())
    trainer.train_step()
    assert float(table.detach().abs().max()) < 0.1 * learned
    assert torch.equal(trainer.poses.previous_motions, found)
    while trainer.step < trainer.config.total_steps:
        trainer.train_step()
    assert trainer.step == 120
    assert not torch.equal(trainer.poses.motions, found)


def test_setting_out_again_moves_nothing() -> None:
    poses = refiner()
    one_update(poses, torch.arange(FRAMES), 1.0)
    stood, told = poses.cameras().camera_to_world, poses.corrections(0.0)
    poses.start_round()
    assert not poses.tangents.any()
    torch.testing.assert_close(poses.cameras().camera_to_world, stood)
    for one, other in zip(poses.corrections(0.0).corrections, told.corrections, strict=True):
        torch.testing.assert_close(one.motion.matrix, other.motion.matrix)
    other = refiner()
    other.restore(poses.state())
    torch.testing.assert_close(other.pivots, poses.pivots)
    torch.testing.assert_close(other.cameras().camera_to_world, stood)


def test_without_refinement_poses_stay(ball: Any, trainer_of: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    trainer = trainer_of(in_two_drives(ball.clean, offset), steps=10, pose_refinement=False)
    trainer.train_step()
    assert trainer.poses is None
    assert trainer.pixels.cameras is trainer.pixels.input_cameras


def test_long_drives_can_be_divided(ball: Any, trainer_of: MakeTrainer) -> None:
    """The way around is 23 units long, up and down included; without times, the order of photographs decides."""
    trainer = trainer_of(ball.clean, steps=10, pose_refinement=True, pose_segment_length=6.0)
    assert trainer.poses is not None
    assert [stretch.number for stretch in trainer.poses.pose_segments] == [0, 1, 2, 3]


def on_one_way(per_stretch: int = FRAMES // 4) -> PoseRefiner:
    """Four stretches of one drive."""
    return PoseRefiner(
        cameras(), [PoseSegment(segment="drive", number=i // per_stretch) for i in range(FRAMES)], LENGTH
    )


def one_update(poses: PoseRefiner, frames: torch.Tensor, progress: float) -> None:
    rays = rays_of(poses.cameras(), frames).requires_grad_copy()
    squared_errors(rays, torch.zeros(len(frames), 3).double()).backward()
    for part in (rays.origins, rays.directions):
        assert part.grad is not None
        part.grad *= 1e-4  # so short that the bound on updates does not matter
    poses.update(rays, frames, squared_error=1e-2, update=0, progress=progress)


def test_a_stretch_that_no_ray_hits_goes_with_its_neighbors() -> None:
    """Between two that pictures move alike, it moves as they do on average; alone in its segment, it stays."""
    frames = torch.tensor([i for i in range(FRAMES) if i // 3 != 1]).repeat(4)
    tied, apart = (
        on_one_way(),
        PoseRefiner(cameras(), [PoseSegment(segment=f"d{i // 3}") for i in range(FRAMES)], LENGTH),
    )
    for poses in (tied, apart):
        poses._gauge_projection = torch.eye(24, dtype=torch.float64)  # so that nothing but the ties can move it
        one_update(poses, frames, progress=1.0)
    assert apart.tangents[1].abs().max() == 0.0
    before, after, share = *tied._smoothness[:2], tied.counts[1] / tied.counts.sum()
    between = (before * tied.tangents[0] + after * tied.tangents[2]) / (before + after + share)
    assert torch.allclose(tied.tangents[1], between)
    assert between.norm() > 0.1 * tied.tangents[[0, 2]].norm()


def test_only_neighbors_on_the_way_are_tied() -> None:
    places = [("a", 0), ("a", 1), ("a", 3), ("b", 4)]
    pose_segments = [PoseSegment(segment=name, number=number) for name, number in places for _ in range(3)]
    ties = PoseRefiner(cameras(), pose_segments[::-1], LENGTH)._smoothness
    assert ties.count_nonzero() == 1
    assert ties[0] > 0.0


def test_priors_never_overshoot() -> None:
    """Steps beyond a full one are for what the field undoes; it undoes nothing of a prior."""
    for poses in (refiner(), on_one_way()):
        count = len(poses.pose_segments)
        noise = torch.randn(6 * count, generator=torch.Generator().manual_seed(1)).double()
        start = 1e-4 * (poses._gauge_projection @ noise).view(count, 6)
        poses.tangents = start.clone()
        frames = torch.arange(FRAMES)
        rays = rays_of(poses.cameras(), frames).requires_grad_copy()
        (0.0 * squared_errors(rays, torch.zeros(FRAMES, 3).double())).backward()
        poses.update(rays, frames, squared_error=1e-2, update=0, progress=0.0)
        assert float((poses.tangents * start).sum()) > -1e-3 * float(start.square().sum())


def test_a_chain_is_solved_as_the_whole_system_is() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 6, 6, generator=generator).double()
    own = root @ root.transpose(1, 2) + 12.0 * torch.eye(6).double()
    ties, right = -torch.rand(4, generator=generator).double(), torch.randn(5, 6, generator=generator).double()
    whole = torch.block_diag(*own) + torch.kron(torch.diag(ties, 1) + torch.diag(ties, -1), torch.eye(6).double())
    assert torch.allclose(
        _solve_block_tridiagonal(own, ties, right).flatten(), torch.linalg.solve(whole, right.flatten())
    )


def test_colors_alone_move_poses(ball: Any, trainer_of: MakeTrainer) -> None:
    offset = PivotTransform(pivot=(0.0, 0.0, 0.0), translation=(0.08, -0.1, 0.08))
    moved = []
    for weight in (0.0, 100.0):
        trainer = trainer_of(in_two_drives(ball.clean, offset), steps=8, pose_refinement=True, distortion_weight=weight)
        trainer.train_step()
        assert trainer.poses is not None
        moved.append(trainer.poses.tangents)
    assert moved[0].abs().max() > 0.0
    assert torch.equal(*moved)
