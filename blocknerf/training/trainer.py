"""The training loop of one block."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.capture.stretches import stretches
from blocknerf.errors import TrainingError
from blocknerf.fields.block_field import BlockField
from blocknerf.rendering.rays import RayRendering, render_rays
from blocknerf.sampling.proposal import Histogram
from blocknerf.training import losses
from blocknerf.training.config import TrainConfig
from blocknerf.training.crowds import OutlierCrowds
from blocknerf.training.optimizer import FieldOptimizer
from blocknerf.training.pixels import PixelBatch, PixelSource
from blocknerf.training.poses import LEARN_EVERY, PoseRefiner, active_levels
from blocknerf.training.visibility import visibility_loss

ANNEAL_SHARE = 0.1
"""Share of training over which proposal weights sharpen from even to their own."""
PROPOSAL_EVERY = 2
"""After the annealing, proposals learn on every n-th step: they follow a field that moves slowly."""
NEAR_FADE = 0.15
"""Gradients fade below this share of the block's half extent from the camera."""
TRIM_SHARE = 0.3
"""Share of training over which the trimmed share of rays rises: at first the static errs no less than what moves."""
SHELL_START, SHELL_END = 0.2, 0.04
"""Half-width of the shell around a measured depth, as a share of the depth, at the start and at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step came to."""

    step: int
    loss: float
    psnr: float
    """Of the step's own pixels, in dB."""


class Trainer:
    """A field in training: everything that changes from step to step."""

    def __init__(self, field: BlockField, pixels: PixelSource, exposures: Float[Tensor, "frames"], config: TrainConfig):
        self.field, self.pixels, self.exposures, self.config = field, pixels, exposures, config
        self.optimizer = FieldOptimizer(field, config)
        self.crowds = OutlierCrowds(pixels.cameras) if config.trim else None
        self.step = 0
        self.poses = self._refiner()

    def advance(self) -> StepReport:
        """Take one step.

        Raises:
            TrainingError: The loss is no longer finite; the step is named and nothing was updated.
        """
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        depth_rays = int(self.config.rays * self.config.depth_share) if self.pixels.has_depth else 0
        batch = self.pixels.batch(self.step, self.config.rays, depth_rays)
        rays = self.pixels.cameras.rays(batch.frames, batch.pixels)
        refines = self.poses is not None and self.poses.several
        moves = refines and self.step % LEARN_EVERY == 0
        if refines:
            self.field.base.active_levels = active_levels(self.step / self.config.steps, self.field.spec.levels)
        if moves:
            rays = rays.tracked()
        annealing = min(1.0, self.step / (ANNEAL_SHARE * self.config.steps))
        train_proposals = annealing < 1.0 or self.step % PROPOSAL_EVERY == 0
        # Not plain indexing: its gradient is summed by threads in any order, and a resumed training would drift.
        codes = self.field.codes.index_select(0, batch.frames)
        seen = render_rays(
            self.field,
            rays,
            codes,
            self.exposures[batch.frames],
            generator=generator,
            anneal=annealing,
            train_proposals=train_proposals,
            near_fade=NEAR_FADE * self.field.spec.half_extent,
        )
        color_loss = losses.photometric(seen.color, batch.colors, self._trusted(seen, batch))
        loss = color_loss + self._regularizers(seen, batch, train_proposals, moves)
        loss = loss + visibility_loss(self.field, rays, seen, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"loss is {value} at step {self.step}; the last good checkpoint is kept: "
                "check exposures and poses, or take another --seed"
            )
        loss.backward()
        self.optimizer.step(self.step)
        if moves:
            self._move_poses(rays, batch, float(color_loss.detach()))
        self.step += 1
        return StepReport(step=self.step, loss=value, psnr=-10.0 * math.log10(max(float(color_loss.detach()), 1e-10)))

    def _take_cameras(self) -> None:
        """Take the photographs to be from where they are now thought to be."""
        if self.poses is not None:
            self.pixels.cameras = self.poses.cameras()

    def _refiner(self) -> PoseRefiner | None:
        if not self.config.pose_refinement:
            return None
        every = stretches(self.pixels.capture, self.config.pose_stretch)
        own = [every[index] for index in self.pixels.frames]
        return PoseRefiner(self.pixels.given, own, self.field.spec.half_extent)

    def _move_poses(self, rays: RayBundle, batch: PixelBatch, squared_error: float) -> None:
        assert self.poses is not None
        self.poses.update(
            rays,
            batch.frames,
            squared_error=squared_error,
            update=self.step // LEARN_EVERY,
            progress=self.step / self.config.steps,
        )
        self._take_cameras()

    def state(self) -> dict[str, Tensor]:
        """All but the weights that a training needs to go on: moments, poses, and where outliers crowd."""
        poses = {} if self.poses is None else {f"poses.{name}": value for name, value in self.poses.state().items()}
        return self.optimizer.state() | poses | ({} if self.crowds is None else self.crowds.state())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take that state back."""
        self.optimizer.restore(state)
        if self.poses is not None:
            self.poses.restore({name: state[f"poses.{name}"] for name in self.poses.state()})
            self._take_cameras()
        if self.crowds is not None:
            self.crowds.restore(state)

    def _trusted(self, seen: RayRendering, batch: PixelBatch) -> Bool[Tensor, "rays"] | None:
        """The rays whose colors to learn from, where outliers are trimmed; None where every ray is trusted."""
        if self.crowds is None:
            return None
        share = self.config.trim * min(1.0, self.step / (TRIM_SHARE * self.config.steps))
        errors = (seen.color.detach() - batch.colors).square().mean(-1)
        return self.crowds.trusted(batch.frames, batch.pixels, errors, share)

    def _regularizers(self, seen: RayRendering, batch: PixelBatch, train_proposals: bool, moves: bool) -> Tensor:
        fine = Histogram(edges=seen.samples.edges, weights=seen.weights)
        total = self.config.code_weight * losses.code_prior(self.field.codes)
        if train_proposals:
            total = total + sum(losses.interlevel(fine, proposal) for proposal in seen.proposals)
        # Where a photograph was taken from, its colors alone say. The depth loss takes the measured distance as fixed,
        # though it changes as the camera moves, and by distortion a camera would go to where surfaces look thin.
        return total if moves else total + self._shape_losses(seen, fine, batch)

    def _shape_losses(self, seen: RayRendering, fine: Histogram, batch: PixelBatch) -> Tensor:
        total = self.config.distortion_weight * losses.distortion(fine)
        if len(batch.depths):
            total = total + self.config.depth_weight * self._depth_loss(seen, batch.depths)
        if len(batch.sky):
            total = total + self.config.sky_weight * losses.sky_opacity(seen.opacity, batch.sky)
        return total

    def _depth_loss(self, seen: RayRendering, depths: Float[Tensor, "measured"]) -> Tensor:
        rows = slice(0, len(depths))
        progress = min(1.0, self.step / self.config.steps)
        share = SHELL_START * (SHELL_END / SHELL_START) ** progress
        sight = losses.line_of_sight(seen.weights[rows], seen.samples.middles[rows], depths, share * depths)
        opacity = seen.opacity[rows]
        mean = (seen.weights[rows] * seen.samples.middles[rows]).sum(-1) / opacity.clamp_min(1e-3)
        return sight + losses.expected_depth(mean, depths, opacity)
