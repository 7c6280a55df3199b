"""Poses that are learned with the field: one rigid offset a stretch of a block's training frames."""

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
"""Poses learn on every n-th step: gradients of points cost, and six numbers a stretch need few rays."""
STEP_START, STEP_END = 3.0, 0.1
"""Share of a Gauss-Newton step that an update takes, at the start and at the end of training.

More than all of it at first: the step is right for a scene that stays as it is, but the field follows the poses, and
most of what an offset does to pictures is undone by it.
"""
MAX_UPDATE = 2e-3
"""Longest update of a tangent. Twice the step above without it sent all cameras off for good (sample city)."""
MOMENTUM, CURVATURE_MOMENTUM = 0.8, 0.9
"""Shares that the averages over updates keep; with this momentum, steps below 18 times the full one are stable."""
PRIOR_START, PRIOR_END = 1e5, 1e-1
PRIOR_FRACTION = 0.2
"""Share of training over which the prior falls.

The paper's is 1/60, which is 5,000 of its steps; of the 900 to 6,000 of a draft it would be 15 to 100, when there is
no shape yet to align to: offsets run off by more than they were wrong by (measured on the sample city).
"""
MIN_SPACING = 1e-3
"""Between the middles of neighboring stretches, in units of `length`: cameras may stand still."""
COARSE_TO_FINE_FRACTION = 0.6
"""Share of training over which hash levels fade in (BARF, Lin et al. 2021).

Fine levels fit each drive's own misplaced texture, and then nothing pulls the drives together any more. On the sample
city, errors of 800 steps fall from 2.8 to 2.0 cm between shares of 0.4 and 0.6; the picture is as good.
"""
INITIAL_LEVELS = 3.0
"""Hash levels that are on from the start."""


class PoseRefiner:
    """Rigid offsets of stretches, and what their training remembers (Tancik et al. 2022, section 4.2.1).

    A stretch's tangent is its translation in units of `segment_length` and its rotation vector (radians); it turns about
    the mean center of its cameras. About a pivot elsewhere a turn would also shift the cameras, and neither could
    be learned without the other.

    What all stretches have in common is held at zero, since photographs cannot show it: moving the whole scene
    along with its cameras changes no picture. The mean is taken over frames, which leaves a block nearest to the
    poses it was given, and so neighbors that were given the same poses nearest to one another. All of it is kept on the
    processor, wherever the field is trained.

    Neighboring stretches of a segment hold to one another, as errors that wander along a way do: what the few rays of
    a short stretch leave open, its neighbors say. The tie weighs as the prior does, times the squared difference of
    the tangents over the way between them, and so as much in all however finely a segment is divided.
    """

    def __init__(self, cameras: Cameras, pose_segments: Sequence[PoseSegment], length: float) -> None:
        self.input_cameras, self.segment_length = cameras, length
        self.pose_segments = tuple(sorted(set(pose_segments), key=lambda stretch: (stretch.segment, stretch.number)))
        numbers = {stretch: number for number, stretch in enumerate(self.pose_segments)}
        self._of_frame = torch.tensor([numbers[stretch] for stretch in pose_segments])
        self.counts = torch.nn.functional.one_hot(self._of_frame, len(self.pose_segments)).double().sum(0)
        self.previous_motions = torch.eye(3, 4, dtype=torch.float64).repeat(len(self.pose_segments), 1, 1)
        """The motions that earlier rounds came to; those of this one follow them."""
        self._first_pivots = self._update_pivots()
        self.tangents = torch.zeros(len(self.pose_segments), 6, dtype=torch.float64)
        self.gradient = torch.zeros_like(self.tangents)
        self.curvature = torch.zeros(len(self.pose_segments), 6, 6, dtype=torch.float64)

    def start_round(self) -> None:
        """Begin another round from the poses that this one came to."""
        self.previous_motions = self.motions
        self._update_pivots()
        for value in (self.tangents, self.gradient, self.curvature):
            value.zero_()

    def _update_pivots(self) -> Float64[Tensor, "stretches 3"]:
        """Take the stretches to stand where earlier rounds left them, and give their pivots."""
        centers = compose(self.previous_motions[self._of_frame], self.input_cameras.camera_to_world.double())[..., 3]
        member = torch.nn.functional.one_hot(self._of_frame, len(self.pose_segments)).double()
        self.pivots = member.T @ centers / self.counts[:, None]
        self._gauge_projection = _without_common_motion(self.pivots / self.segment_length, self.counts)
        self._smoothness = _smoothness(self.pose_segments, self.pivots / self.segment_length)
        return self.pivots

    @property
    def has_multiple(self) -> bool:
        """Whether there is anything to learn: of a single stretch, no offset changes a picture."""
        return len(self.pose_segments) > 1

    @property
    def motions(self) -> Float64[Tensor, "stretches 3 4"]:
        """The motion of each stretch, over all rounds."""
        scale = self.tangents.new_tensor([self.segment_length] * 3 + [1.0] * 3)
        moved = se3_exp(self.tangents * scale)
        turn, shift = moved[..., :3], moved[..., 3]
        own = torch.cat([turn, (shift + self.pivots - (turn @ self.pivots[..., None])[..., 0])[..., None]], -1)
        return compose(own, self.previous_motions)

    def cameras(self) -> Cameras:
        """The cameras where they are thought to be now."""
        moved = compose(self.motions[self._of_frame], self.input_cameras.camera_to_world.double())
        return replace(self.input_cameras, camera_to_world=moved.to(self.input_cameras.camera_to_world.dtype))

    def corrections(self, stretch_length: float) -> PoseCorrections:
        """What was learned."""
        found = [
            PoseCorrection(pose_segment=stretch, frames=int(count), motion=PivotTransform.of_matrix(matrix, pivot))
            for stretch, count, matrix, pivot in zip(
                self.pose_segments, self.counts.tolist(), self.motions, self._first_pivots, strict=True
            )
        ]
        return PoseCorrections(segment_length=stretch_length, corrections=tuple(found))

    def update(
        self, rays: RayBundle, frames: Int[Tensor, "rays"], *, squared_error: float, update: int, progress: float
    ) -> None:
        """Move the stretches by what the rays' gradients say.

        A damped Gauss-Newton step. The Hessian of a squared error is, but for the error's own variance, the
        covariance of the gradients of single rays, which come with a backward pass at no cost. So every step is as
        long as it should be, in directions that move pictures much and in those that hardly do, whatever the
        capture's unit and the size of its photographs; Adam's single rate has to suit the worst of them.

        Args:
            rays: The step's rays, with the gradients of a loss that is a mean over rays.
            frames: The frame of each.
            squared_error: Mean squared error of the rays' colors.
            update: Which update this is, counted from zero.
            progress: Share of the training that is done.
        """
        frames = frames.cpu()
        single = self._ray_gradients(rays, frames)
        member = torch.nn.functional.one_hot(self._of_frame[frames], len(self.pose_segments)).double().T
        self.gradient.lerp_(member @ single, 1.0 - MOMENTUM)
        products = (member @ (single[:, :, None] * single[:, None]).flatten(1)).view_as(self.curvature)
        self.curvature.lerp_(products * (len(frames) / (2.0 * squared_error)), 1.0 - CURVATURE_MOMENTUM)
        gradient = self.gradient / (1.0 - MOMENTUM ** (update + 1))
        curvature = self.curvature / (1.0 - CURVATURE_MOMENTUM ** (update + 1))
        step = STEP_START * (STEP_END / STEP_START) ** progress
        moved = self.tangents - _clip_norm(self._change(gradient, curvature, step, 2.0 * prior_weight(progress)))
        self.tangents = (self._gauge_projection @ moved.flatten()).view_as(moved)

    def _change(
        self,
        gradient: Float64[Tensor, "stretches 6"],
        curvature: Float64[Tensor, "stretches 6 6"],
        step: float,
        pull: float,
    ) -> Float64[Tensor, "stretches 6"]:
        """What to take off the tangents.

        Only what pictures say may be overdone: the field undoes it in part, but nothing of a prior, which would
        overshoot and throw tangents back and forth as long as it rules.
        """
        to_zero = (self.counts / self.counts.sum())[:, None]
        back = torch.nn.functional.pad(self._smoothness[:, None] * self.tangents.diff(dim=0), (0, 0, 1, 1)).diff(dim=0)
        prior = pull * (to_zero * self.tangents - back)
        held = (
            to_zero[:, 0]
            + torch.nn.functional.pad(self._smoothness, (0, 1))
            + torch.nn.functional.pad(self._smoothness, (1, 0))
        )
        stiff = curvature + pull * held[:, None, None] * torch.eye(6, dtype=torch.float64, device="cpu")
        return _solve_block_tridiagonal(stiff, -pull * self._smoothness, step * gradient + min(1.0, step) * prior)

    def state(self) -> dict[str, Tensor]:
        """All that changes in training, for a checkpoint."""
        return {name: getattr(self, name) for name in ("previous_motions", "tangents", "gradient", "curvature")}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take it back from a checkpoint."""
        for name, value in self.state().items():
            value.copy_(state[name])
        self._update_pivots()

    def _ray_gradients(self, rays: RayBundle, frames: Int[Tensor, "rays"]) -> Float64[Tensor, "rays 6"]:
        """The gradient of each ray to a further motion of its stretch."""
        assert rays.origins.grad is not None
        assert rays.directions.grad is not None
        given = rays.origins.grad, rays.directions.grad, rays.origins.detach(), rays.directions.detach()
        pushes, turns, origins, directions = (part.cpu().double() for part in given)
        arms = origins - self.pivots[self._of_frame[frames]]
        moments = torch.linalg.cross(arms, pushes) + torch.linalg.cross(directions, turns)
        return torch.cat([self.segment_length * pushes, moments], -1)


def prior_weight(progress: float) -> float:
    """Weight of the mean squared tangent at a share of the training: from 1e5 down to 1e-1, and then as it is.

    The paper's numbers. It falls geometrically: a linear fall over six decades holds all offsets at zero until
    its very end and lets go of them at once.

    >>> [round(prior_weight(share * PRIOR_FRACTION), 9) for share in (0.0, 0.5, 1.0, 2.0)]
    [100000.0, 100.0, 0.1, 0.1]
    """
    share = min(1.0, progress / PRIOR_FRACTION)
    return PRIOR_START * (PRIOR_END / PRIOR_START) ** share


def active_levels(progress: float, levels: int) -> float | None:
    """How many hash levels are on at a share of the training; None for all.

    >>> active_levels(0.0, 8), active_levels(COARSE_TO_FINE_FRACTION / 2, 8), active_levels(COARSE_TO_FINE_FRACTION, 8)
    (3.0, 5.5, None)
    """
    share = progress / COARSE_TO_FINE_FRACTION
    return None if share >= 1.0 else INITIAL_LEVELS + share * max(0.0, levels - INITIAL_LEVELS)


def _without_common_motion(
    pivots: Float64[Tensor, "stretches 3"], weights: Float64[Tensor, "stretches"]
) -> Float64[Tensor, "numbers numbers"]:
    """The matrix that takes out of all tangents the one rigid motion that comes nearest to them."""
    arms = pivots - weights @ pivots / weights.sum()
    identity = torch.eye(3, dtype=torch.float64).expand(len(pivots), 3, 3)
    # A turn of the whole about its middle also shifts each pivot, by turn x arm.
    shifts = torch.cat([identity, -skew(arms)], -1)
    common = torch.cat([shifts, torch.cat([torch.zeros_like(identity), identity], -1)], -2).reshape(-1, 6)
    weighted = common.T * weights.repeat_interleave(6)
    return torch.eye(len(common), dtype=torch.float64) - common @ torch.linalg.solve(weighted @ common, weighted)


def _smoothness(
    pose_segments: Sequence[PoseSegment], pivots: Float64[Tensor, "stretches 3"]
) -> Float64[Tensor, "ties"]:
    """How firmly each stretch holds to the next of its segment: inversely to the way between their middles."""
    follows = [a.segment == b.segment and a.number + 1 == b.number for a, b in pairwise(pose_segments)]
    way = pivots.diff(dim=0).norm(dim=-1).clamp_min(MIN_SPACING)
    return torch.tensor(follows, dtype=torch.float64) / way


def _clip_norm(change: Float64[Tensor, "stretches 6"]) -> Float64[Tensor, "stretches 6"]:
    return change * (MAX_UPDATE / change.norm(dim=-1, keepdim=True).clamp_min(1e-30)).clamp(max=1.0)


def _solve_block_tridiagonal(
    own: Float64[Tensor, "stretches 6 6"], ties: Float64[Tensor, "ties"], right: Float64[Tensor, "stretches 6"]
) -> Float64[Tensor, "stretches 6"]:
    """The solution of a symmetric system in which each stretch has to do with itself and its neighbors alone.

    Banded, so that the cost grows with the number of stretches and not with its cube.
    """
    count = len(own)
    bands = np.zeros((7, 6 * count))
    for offset in range(6):
        diagonal = torch.diagonal(own, -offset, 1, 2).numpy()
        bands[offset].reshape(count, 6)[:, : 6 - offset] = diagonal
    bands[6, : 6 * (count - 1)] = np.repeat(ties.numpy(), 6)
    return torch.from_numpy(solveh_banded(bands, right.flatten().numpy(), lower=True)).view_as(right)
