"""Refine poses together with the field: one rigid correction per pose segment of a block's training frames."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64, Int
from scipy.linalg import solveh_banded
from torch import Tensor

from blocknerf.cameras import Cameras, RayBundle
from blocknerf.capture.pose_corrections import PoseCorrection, PoseCorrections
from blocknerf.capture.pose_segments import PoseSegment
from blocknerf.capture.rigid import PivotTransform
from blocknerf.geometry import compose, se3_exp, skew

POSE_UPDATE_EVERY = 4
"""Poses are updated on every n-th step: gradients of rays are costly, and six parameters per segment need few rays."""
STEP_START, STEP_END = 3.0, 0.1
"""Step size relative to a Gauss-Newton step, at the start and the end of training.

It starts above 1 because a Gauss-Newton step assumes a fixed scene, but the field adapts to the poses and cancels most
of the effect of a correction on the renderings.
"""
MAX_UPDATE = 2e-3
"""Maximum norm of a tangent update. Without it, twice the step size above made all cameras diverge (sample town)."""
MOMENTUM, CURVATURE_MOMENTUM = 0.8, 0.9
"""Decay of the running averages over updates. With this momentum, steps up to 18 Gauss-Newton steps are stable."""
PRIOR_START, PRIOR_END = 1e5, 1e-1
"""Weight of the prior on the tangents, at the start and the end of its decay."""
PRIOR_FRACTION = 0.2
"""Fraction of training over which the prior decays.

The paper's is 1/60, or 5,000 of its steps. Of the 900 to 6,000 steps of a draft, it would be 15 to 100, before there
is any geometry to align to, and the corrections diverge beyond the initial error (measured on the sample town).
"""
MIN_SPACING = 1e-3
"""Minimum distance between the pivots of neighboring pose segments, in units of `length`; cameras may be static."""
COARSE_TO_FINE_FRACTION = 0.6
"""Fraction of training over which hash levels fade in (BARF, Lin et al. 2021).

Fine levels fit the misplaced texture of each segment separately, and then no gradient aligns the segments any more. On
the sample town, the errors after 800 steps fall from 2.8 to 2.0 cm between fractions of 0.4 and 0.6, at the same image
quality.
"""
INITIAL_LEVELS = 3.0
"""Hash levels that are active from the start."""


class PoseRefiner:
    """Rigid corrections of pose segments, with the optimizer's state (Tancik et al. 2022, section 4.2.1).

    The tangent of a pose segment is its translation in units of `segment_length` and its rotation vector (radians).
    The rotation is about the mean center of the segment's cameras; about any other pivot, a rotation would also shift
    the cameras, and translation and rotation would be correlated.

    The common motion of all segments is projected out, since it is a gauge freedom: moving the scene together with all
    cameras changes no rendering. The mean is over frames, which keeps each block closest to its input poses, and
    therefore keeps neighboring blocks with the same input poses close to each other. All state is on the CPU, whatever
    the device of the field.

    A smoothness prior couples neighboring pose segments of a segment, since drift varies slowly along a path; it
    constrains short segments with few rays. It has the weight of the prior times the squared difference of the
    tangents divided by the distance between the pivots, so its total does not depend on the segment length.
    """

    def __init__(self, cameras: Cameras, pose_segments: Sequence[PoseSegment], length: float) -> None:
        self.input_cameras, self.segment_length = cameras, length
        self.pose_segments = tuple(sorted(set(pose_segments), key=lambda part: (part.segment, part.number)))
        indices = {pose_segment: index for index, pose_segment in enumerate(self.pose_segments)}
        self._segment_of_frame = torch.tensor([indices[pose_segment] for pose_segment in pose_segments])
        self.counts = torch.nn.functional.one_hot(self._segment_of_frame, len(self.pose_segments)).double().sum(0)
        self.previous_motions = torch.eye(3, 4, dtype=torch.float64).repeat(len(self.pose_segments), 1, 1)
        """Motions from earlier rounds; this round's motions are applied after them."""
        self._first_pivots = self._update_pivots()
        self.tangents = torch.zeros(len(self.pose_segments), 6, dtype=torch.float64)
        self.gradient = torch.zeros_like(self.tangents)
        self.curvature = torch.zeros(len(self.pose_segments), 6, 6, dtype=torch.float64)

    def start_round(self) -> None:
        """Start another round from the current poses."""
        self.previous_motions = self.motions
        self._update_pivots()
        for value in (self.tangents, self.gradient, self.curvature):
            value.zero_()

    def _update_pivots(self) -> Float64[Tensor, "segments 3"]:
        """Recompute pivots, gauge projection and smoothness from the poses of earlier rounds; return the pivots."""
        poses = compose(self.previous_motions[self._segment_of_frame], self.input_cameras.camera_to_world.double())
        membership = torch.nn.functional.one_hot(self._segment_of_frame, len(self.pose_segments)).double()
        self.pivots = membership.T @ poses[..., 3] / self.counts[:, None]
        self._gauge_projection = _gauge_projection(self.pivots / self.segment_length, self.counts)
        self._smoothness = _smoothness(self.pose_segments, self.pivots / self.segment_length)
        return self.pivots

    @property
    def has_multiple(self) -> bool:
        """Whether there is anything to refine: the correction of a single pose segment changes no rendering."""
        return len(self.pose_segments) > 1

    @property
    def motions(self) -> Float64[Tensor, "segments 3 4"]:
        """The motion of each pose segment, over all rounds."""
        scale = self.tangents.new_tensor([self.segment_length] * 3 + [1.0] * 3)
        update = se3_exp(self.tangents * scale)
        rotation, translation = update[..., :3], update[..., 3]
        about_pivot = translation + self.pivots - (rotation @ self.pivots[..., None])[..., 0]
        return compose(torch.cat([rotation, about_pivot[..., None]], -1), self.previous_motions)

    def cameras(self) -> Cameras:
        """Return the cameras with the current poses."""
        poses = compose(self.motions[self._segment_of_frame], self.input_cameras.camera_to_world.double())
        return replace(self.input_cameras, camera_to_world=poses.to(self.input_cameras.camera_to_world.dtype))

    def corrections(self, segment_length: float) -> PoseCorrections:
        """Return the corrections of all pose segments."""
        corrections = [
            PoseCorrection(pose_segment=pose_segment, frames=int(count), motion=PivotTransform.of_matrix(matrix, pivot))
            for pose_segment, count, matrix, pivot in zip(
                self.pose_segments, self.counts.tolist(), self.motions, self._first_pivots, strict=True
            )
        ]
        return PoseCorrections(segment_length=segment_length, corrections=tuple(corrections))

    def update(
        self, rays: RayBundle, frames: Int[Tensor, "rays"], *, squared_error: float, update: int, progress: float
    ) -> None:
        """Update the tangents with a damped Gauss-Newton step from the rays' gradients.

        The Hessian of a squared error is, up to the variance of the error, the covariance of the per-ray gradients,
        which the backward pass computes anyway. So the step has the right length in all directions, those with a
        large and those with a small effect on the renderings, whatever the unit of the capture and the size of its
        images; the single learning rate of Adam would have to suit the worst direction.

        Args:
            rays: The step's rays, with the gradients of a loss that is a mean over rays.
            frames: Frame index of each ray.
            squared_error: Mean squared color error of the rays.
            update: Update number, counted from zero.
            progress: Completed fraction of the training.
        """
        frames = frames.cpu()
        per_ray = self._ray_gradients(rays, frames)
        membership = torch.nn.functional.one_hot(self._segment_of_frame[frames], len(self.pose_segments)).double().T
        self.gradient.lerp_(membership @ per_ray, 1.0 - MOMENTUM)
        products = (membership @ (per_ray[:, :, None] * per_ray[:, None]).flatten(1)).view_as(self.curvature)
        self.curvature.lerp_(products * (len(frames) / (2.0 * squared_error)), 1.0 - CURVATURE_MOMENTUM)
        gradient = self.gradient / (1.0 - MOMENTUM ** (update + 1))
        curvature = self.curvature / (1.0 - CURVATURE_MOMENTUM ** (update + 1))
        step = STEP_START * (STEP_END / STEP_START) ** progress
        tangents = self.tangents - _clip_norm(self._step(gradient, curvature, step, 2.0 * prior_weight(progress)))
        self.tangents = (self._gauge_projection @ tangents.flatten()).view_as(tangents)

    def _step(
        self,
        gradient: Float64[Tensor, "segments 6"],
        curvature: Float64[Tensor, "segments 6 6"],
        step: float,
        prior: float,
    ) -> Float64[Tensor, "segments 6"]:
        """Return the step to subtract from the tangents.

        Only the color gradient may be scaled by more than 1, because the field cancels part of its effect. It does
        not cancel the prior's, which would overshoot and oscillate.
        """
        weights = (self.counts / self.counts.sum())[:, None]
        differences = self._smoothness[:, None] * self.tangents.diff(dim=0)
        laplacian = torch.nn.functional.pad(differences, (0, 0, 1, 1)).diff(dim=0)
        prior_gradient = prior * (weights * self.tangents - laplacian)
        prior_diagonal = (
            weights[:, 0]
            + torch.nn.functional.pad(self._smoothness, (0, 1))
            + torch.nn.functional.pad(self._smoothness, (1, 0))
        )
        diagonal = curvature + prior * prior_diagonal[:, None, None] * torch.eye(6, dtype=torch.float64, device="cpu")
        right = step * gradient + min(1.0, step) * prior_gradient
        return _solve_block_tridiagonal(diagonal, -prior * self._smoothness, right)

    def state(self) -> dict[str, Tensor]:
        """Return all state that changes in training, for a checkpoint."""
        return {name: getattr(self, name) for name in ("previous_motions", "tangents", "gradient", "curvature")}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the state from a checkpoint."""
        for name, value in self.state().items():
            value.copy_(state[name])
        self._update_pivots()

    def _ray_gradients(self, rays: RayBundle, frames: Int[Tensor, "rays"]) -> Float64[Tensor, "rays 6"]:
        """Return the gradient of each ray with respect to a further motion of its pose segment."""
        assert rays.origins.grad is not None
        assert rays.directions.grad is not None
        inputs = rays.origins.grad, rays.directions.grad, rays.origins.detach(), rays.directions.detach()
        grad_origins, grad_directions, origins, directions = (tensor.cpu().double() for tensor in inputs)
        arms = origins - self.pivots[self._segment_of_frame[frames]]
        grad_rotation = torch.linalg.cross(arms, grad_origins) + torch.linalg.cross(directions, grad_directions)
        return torch.cat([self.segment_length * grad_origins, grad_rotation], -1)


def prior_weight(progress: float) -> float:
    """Return the weight of the mean squared tangent at a fraction of the training.

    The paper's values: from 1e5 to 1e-1, then constant. The decay is exponential; a linear decay over six decades
    would keep all corrections at zero until the very end and then release them abruptly.

    >>> [round(prior_weight(fraction * PRIOR_FRACTION), 9) for fraction in (0.0, 0.5, 1.0, 2.0)]
    [100000.0, 100.0, 0.1, 0.1]
    """
    fraction = min(1.0, progress / PRIOR_FRACTION)
    return PRIOR_START * (PRIOR_END / PRIOR_START) ** fraction


def active_levels(progress: float, levels: int) -> float | None:
    """Return the number of active hash levels at a fraction of the training; None for all.

    >>> active_levels(0.0, 8), active_levels(COARSE_TO_FINE_FRACTION / 2, 8), active_levels(COARSE_TO_FINE_FRACTION, 8)
    (3.0, 5.5, None)
    """
    fraction = progress / COARSE_TO_FINE_FRACTION
    return None if fraction >= 1.0 else INITIAL_LEVELS + fraction * max(0.0, levels - INITIAL_LEVELS)


def _gauge_projection(
    pivots: Float64[Tensor, "segments 3"], weights: Float64[Tensor, "segments"]
) -> Float64[Tensor, "numbers numbers"]:
    """Return the matrix that removes the best-fitting common rigid motion from the tangents."""
    arms = pivots - weights @ pivots / weights.sum()
    identity = torch.eye(3, dtype=torch.float64).expand(len(pivots), 3, 3)
    # A rotation of the whole scene about its center also shifts each pivot, by rotation x arm.
    shifts = torch.cat([identity, -skew(arms)], -1)
    common = torch.cat([shifts, torch.cat([torch.zeros_like(identity), identity], -1)], -2).reshape(-1, 6)
    weighted = common.T * weights.repeat_interleave(6)
    return torch.eye(len(common), dtype=torch.float64) - common @ torch.linalg.solve(weighted @ common, weighted)


def _smoothness(
    pose_segments: Sequence[PoseSegment], pivots: Float64[Tensor, "segments 3"]
) -> Float64[Tensor, "pairs"]:
    """Return the coupling of each pose segment to the next one of its segment: the inverse distance of the pivots."""
    follows = [a.segment == b.segment and a.number + 1 == b.number for a, b in pairwise(pose_segments)]
    distances = pivots.diff(dim=0).norm(dim=-1).clamp_min(MIN_SPACING)
    return torch.tensor(follows, dtype=torch.float64) / distances


def _clip_norm(step: Float64[Tensor, "segments 6"]) -> Float64[Tensor, "segments 6"]:
    return step * (MAX_UPDATE / step.norm(dim=-1, keepdim=True).clamp_min(1e-30)).clamp(max=1.0)


def _solve_block_tridiagonal(
    diagonal: Float64[Tensor, "segments 6 6"],
    off_diagonal: Float64[Tensor, "pairs"],
    right: Float64[Tensor, "segments 6"],
) -> Float64[Tensor, "segments 6"]:
    """Solve a symmetric block tridiagonal system; off-diagonal blocks are multiples of the identity.

    Uses a banded solver: the cost is linear in the number of pose segments, not cubic.
    """
    count = len(diagonal)
    bands = np.zeros((7, 6 * count))
    for offset in range(6):
        bands[offset].reshape(count, 6)[:, : 6 - offset] = torch.diagonal(diagonal, -offset, 1, 2).numpy()
    bands[6, : 6 * (count - 1)] = np.repeat(off_diagonal.numpy(), 6)
    return torch.from_numpy(solveh_banded(bands, right.flatten().numpy(), lower=True)).view_as(right)
