"""The training loop of one block."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.capture.pose_segments import pose_segments
from blocknerf.errors import BackendError
from blocknerf.fields.block_field import BlockField
from blocknerf.rendering.rays import RayOutputs, render_rays
from blocknerf.sampling.proposal import RayHistogram
from blocknerf.training import losses
from blocknerf.training.config import TrainConfig
from blocknerf.training.device_pixel_sampler import DevicePixelSampler
from blocknerf.training.graphed_steps import GraphedSteps, StepVariant
from blocknerf.training.loss_monitor import LossMonitor, psnr
from blocknerf.training.optimizer import FieldOptimizer
from blocknerf.training.pixel_sampler import PixelBatch, PixelSampler
from blocknerf.training.poses import POSE_UPDATE_EVERY, PoseRefiner
from blocknerf.training.robust_mask import InlierTracker
from blocknerf.training.schedule import (
    DeviceSchedule,
    RoundProgress,
    StepSchedule,
    progress_at,
    schedule_at,
    trains_proposals,
)
from blocknerf.training.visibility import visibility_loss

GRADIENT_SCALING_DISTANCE = 0.15
"""Gradients fade below this share of the block's half extent from the camera."""
TRIM_FRACTION = 0.3
"""Share of training over which the trimmed share of rays rises: at first the static errs no less than what moves."""
MOVING = ("ray_samples", "ray_encoding")
"""Operations that steps which move poses differentiate by rays: only the reference does (`kernels.backends.FIXED`)."""
TRIMMED = "a trimmed loss asks for the errors of each step on the processor"
"""Why no step of it can be replayed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepMetrics:
    """What one step came to; on a GPU, asking for it waits until the step is done."""

    step: int
    values: Float[Tensor, "2"]
    """Loss, and mean squared error of the colors."""

    @property
    def loss(self) -> float:
        return float(self.values[0])

    @property
    def psnr(self) -> float:
        """Of the step's own pixels, in dB."""
        return psnr(float(self.values[1]))


class Trainer:
    """A field in training: everything that changes from step to step.

    On a GPU a step is only put in a queue, and most steps are replayed from CUDA graphs.
    """

    def __init__(
        self,
        field: BlockField,
        pixels: PixelSampler | DevicePixelSampler,
        exposures: Float[Tensor, "frames"],
        config: TrainConfig,
        *,
        captured: bool | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            field: To train, on its device.
            pixels: To learn from; where the field is on a GPU, on that.
            exposures: Of the photographs, where the field is.
            config: How.
            captured: Whether steps become CUDA graphs; by default on a GPU.

        Raises:
            BackendError: the pixels lie elsewhere than the field, or steps that are to be captured cannot be.
        """
        self.field, self.pixels, self.exposures, self.config = field, pixels, exposures, config
        self.device = field.origin.device
        _check_places(self.device, pixels, captured)
        if captured and config.robust_trim:
            raise BackendError(f"trainer: steps cannot be captured with trim {config.robust_trim:g}: {TRIMMED}")
        self.optimizer = FieldOptimizer(field)
        self.inliers = InlierTracker(pixels.input_cameras) if config.robust_trim else None
        self.step = 0
        self.poses = self._refiner()
        self.monitor = LossMonitor(self.device)
        on_gpu = self.device.type == "cuda"
        self._generator = torch.Generator(self.device if on_gpu else "cpu")
        self._fading = field.spec.num_levels if self.poses is not None and self.poses.has_multiple else None
        self._schedule = (
            DeviceSchedule(config, self._fading, self.device) if isinstance(pixels, DevicePixelSampler) else None
        )
        self._graphed = GraphedSteps(self._step_graphed, self._generator) if on_gpu and captured is not False else None

    def train_step(self) -> StepMetrics:
        """Take one step.

        Raises:
            TrainingError: The loss is no longer finite; the step is named. On the processor nothing was updated then;
                on a GPU it is `check` that finds out.
        """
        if self.step > 0 and self._progress.step == 0:
            self._restart_field()
        self.pixels.prefetch(self.step)
        seed = self.config.seed * 1_000_003 + self.step
        pace = schedule_at(self.step, self.config, self._fading)
        kind = StepVariant(
            trains_proposals=trains_proposals(self.step, self.config), fades_levels=pace.num_levels is not None
        )
        moves = self.updates_poses and self._progress.step % POSE_UPDATE_EVERY == 0
        if self._schedule is not None:
            pace = self._schedule.set_step(self.step)
        if self._graphed is not None and self._can_graph(moves):
            self._graphed.train_step(kind, seed)
        else:
            self._generator.manual_seed(seed)
            self._step(pace, kind, moves)
        self.step += 1
        return StepMetrics(step=self.step, values=self.monitor.last.clone())

    @property
    def updates_poses(self) -> bool:
        """Whether some steps move poses."""
        return self._fading is not None

    @property
    def replay(self) -> tuple[bool, str]:
        """Whether steps are replayed from CUDA graphs, and which, or why not."""
        if self._graphed is None:
            return False, "captured is False" if self.device.type == "cuda" else "CUDA graphs need a GPU"
        if self.inliers is not None:
            return False, TRIMMED
        return True, "all but those that move poses" if self.updates_poses else "all steps"

    @property
    def _progress(self) -> RoundProgress:
        return progress_at(self.step, self.config)

    def _restart_field(self) -> None:
        """Forget the field, and go on from the poses that it led to.

        What a field learned from wrong poses holds them there. In place, since graphs know where everything is.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed + self.step)
            fresh = dict(BlockField(self.field.spec).named_parameters())
        with torch.no_grad():
            for name, value in self.field.named_parameters():
                value.copy_(fresh[name])
        self.optimizer.reset()
        if self.inliers is not None:
            self.inliers = InlierTracker(self.pixels.input_cameras)
        if self.poses is not None:
            self.poses.start_round()

    def check(self) -> None:
        """Wait for the steps so far.

        Raises:
            TrainingError: the loss of one was not finite; names the first.
        """
        self.monitor.check()

    def _can_graph(self, moves: bool) -> bool:
        """Whether a step does to the letter what others did, so that a graph can take it.

        Here is all that cannot: a step that moves poses solves for them on the processor, and see TRIMMED.
        """
        return not moves and self.inliers is None

    def _step_graphed(self, kind: StepVariant) -> None:
        assert self._schedule is not None
        self._step(self._schedule.schedule, kind, moves=False)

    def _step(self, pace: StepSchedule, kind: StepVariant, moves: bool) -> None:
        """The step itself; on a GPU nothing in it waits, but for what `_can_graph` tells of."""
        if self._fading is not None:
            self.field.base.active_levels = pace.num_levels if kind.fades_levels else None
        batch = self._batch()
        rays = self.pixels.cameras.rays(batch.frames, batch.pixels, self.pixels.distortion_info)
        if moves:
            rays = rays.requires_grad_copy()
        # Not plain indexing: its gradient is summed by threads in any order, and a resumed training would drift.
        codes = self.field.appearance_codes.index_select(0, batch.frames)
        seen = render_rays(
            self.field,
            rays,
            codes,
            self.exposures[batch.frames],
            generator=self._generator,
            anneal=pace.proposal_anneal,
            train_proposals=kind.trains_proposals,
            gradient_scaling_distance=GRADIENT_SCALING_DISTANCE * self.field.spec.half_extent,
        )
        color_loss = losses.photometric(seen.color, batch.colors, self._inliers(seen, batch))
        shapes = None if moves else pace.depth_tolerance
        loss = color_loss + self._regularizers(seen, batch, kind.trains_proposals, shapes)
        loss = loss + visibility_loss(self.field, rays, seen, self._generator)
        self.monitor.record(loss, color_loss, pace.count)
        if self.device.type == "cpu":
            self.monitor.check()
        loss.backward()
        self.optimizer.step(pace)
        if moves:
            self._update_poses(rays, batch, float(color_loss.detach()))

    def _batch(self) -> PixelBatch:
        depth_rays = int(self.config.rays_per_step * self.config.depth_ray_fraction) if self.pixels.has_depth else 0
        if isinstance(self.pixels, DevicePixelSampler):
            return self.pixels.draw(self._generator, self.config.rays_per_step, depth_rays)
        return self.pixels.batch(self.step, self.config.rays_per_step, depth_rays)

    def _sync_cameras(self) -> None:
        """Take the photographs to be from where they are now thought to be."""
        if self.poses is not None:
            self.pixels.set_cameras(self.poses.cameras())

    def _refiner(self) -> PoseRefiner | None:
        if not self.config.pose_refinement:
            return None
        every = pose_segments(self.pixels.capture, self.config.pose_segment_length)
        own = [every[index] for index in self.pixels.frames]
        return PoseRefiner(self.pixels.input_cameras, own, self.field.spec.half_extent)

    def _update_poses(self, rays: RayBundle, batch: PixelBatch, squared_error: float) -> None:
        assert self.poses is not None
        place = self._progress
        self.poses.update(
            rays,
            batch.frames,
            squared_error=squared_error,
            update=place.step // POSE_UPDATE_EVERY,
            progress=place.progress,
        )
        self._sync_cameras()

    def state(self) -> dict[str, Tensor]:
        """All but the weights that a training needs to go on: moments, poses, and where outliers crowd."""
        poses = {} if self.poses is None else {f"poses.{name}": value for name, value in self.poses.state().items()}
        return self.optimizer.state() | poses | ({} if self.inliers is None else self.inliers.state())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take that state back."""
        self.optimizer.restore(state)
        if self.poses is not None:
            self.poses.restore({name: state[f"poses.{name}"] for name in self.poses.state()})
            self._sync_cameras()
        if self.inliers is not None:
            self.inliers.restore(state)

    def _inliers(self, seen: RayOutputs, batch: PixelBatch) -> Bool[Tensor, "rays"] | None:
        """The rays whose colors to learn from, where outliers are trimmed; None where every ray is trusted."""
        if self.inliers is None:
            return None
        share = self.config.robust_trim * min(1.0, self._progress.progress / TRIM_FRACTION)
        errors = (seen.color.detach() - batch.colors).square().mean(-1)
        return self.inliers.inlier_mask(batch.frames, batch.pixels, errors, share)

    def _regularizers(
        self, seen: RayOutputs, batch: PixelBatch, train_proposals: bool, shell: float | Float[Tensor, ""] | None
    ) -> Tensor:
        """All but the losses of color and visibility; those of shape too where a shell is given."""
        fine = RayHistogram(s_edges=seen.samples.s_edges, weights=seen.weights)
        total = self.config.appearance_reg * losses.appearance_reg(self.field.appearance_codes)
        if train_proposals:
            total = total + sum(losses.interlevel(fine, proposal) for proposal in seen.proposals)
        # Where a photograph was taken from, its colors alone say. The depth loss takes the measured distance as fixed,
        # though it changes as the camera moves, and by distortion a camera would go to where surfaces look thin.
        return total if shell is None else total + self._shape_losses(seen, fine, batch, shell)

    def _shape_losses(
        self, seen: RayOutputs, fine: RayHistogram, batch: PixelBatch, shell: float | Float[Tensor, ""]
    ) -> Tensor:
        total = self.config.distortion_weight * losses.distortion(fine)
        if len(batch.depths):
            total = total + self.config.depth_weight * self._depth_loss(seen, batch.depths, shell)
        if len(batch.sky):
            total = total + self.config.sky_weight * losses.sky_opacity(seen.opacity, batch.sky)
        return total

    def _depth_loss(
        self, seen: RayOutputs, depths: Float[Tensor, "measured"], shell: float | Float[Tensor, ""]
    ) -> Tensor:
        rows = slice(0, len(depths))
        sight = losses.line_of_sight(seen.weights[rows], seen.samples.t_mids[rows], depths, shell * depths)
        opacity = seen.opacity[rows]
        mean = (seen.weights[rows] * seen.samples.t_mids[rows]).sum(-1) / opacity.clamp_min(1e-3)
        return sight + losses.expected_depth(mean, depths, opacity)


def _check_places(device: torch.device, pixels: PixelSampler | DevicePixelSampler, captured: bool | None) -> None:
    if device.type == "cuda" and isinstance(pixels, PixelSampler):
        raise BackendError(f"trainer: the field is on {device} and the pixels are not; give DevicePixels on {device}")
    if captured and device.type != "cuda":
        raise BackendError(f"trainer: steps cannot be captured on {device}; leave captured out, or train on a GPU")
