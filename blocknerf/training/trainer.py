"""The training loop of one block."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.capture.pose_segments import pose_segments
from blocknerf.cuda_graphs import GraphedSteps
from blocknerf.errors import BackendError
from blocknerf.fields.block_field import BlockField
from blocknerf.metrics import mean_squared_to_psnr
from blocknerf.rendering.rays import RayOutputs, render_rays
from blocknerf.training import losses
from blocknerf.training.config import TrainConfig
from blocknerf.training.optimizer import FieldOptimizer
from blocknerf.training.pixel_sampler import PixelBatch, PixelSampler
from blocknerf.training.poses import POSE_UPDATE_EVERY, PoseRefiner
from blocknerf.training.robust_mask import InlierTracker
from blocknerf.training.schedule import (
    DeviceSchedule,
    RoundProgress,
    StepSchedule,
    StepVariant,
    progress_at,
    schedule_at,
    trains_proposals,
)

GRADIENT_SCALING_DISTANCE = 0.15
"""Gradients are scaled down below this distance from the camera, relative to the block's half extent.

It covers about the first two of a draft's 24 samples if these are evenly spaced: half of them are within the half
extent. A floater so near covers much of one image and little of any other.
"""
TRIM_WARM_UP_FRACTION = 0.3
"""Fraction of training over which the trimmed fraction of rays rises; at first, static objects err as much."""
POSE_STEP_OPS = ("ray_samples", "ray_encoding")
"""Operations that pose steps differentiate by rays; only `torch` can (`kernels.backends.CONSTANT_INPUTS`)."""
NO_GRAPHS_WITH_TRIM = "robust_trim needs the errors of each step on the CPU"
"""Why steps with `robust_trim` cannot be captured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepMetrics:
    """Metrics of one step. On a GPU, reading them waits for the step."""

    step: int
    values: Float[Tensor, "2"]
    """Loss and mean squared color error."""

    @property
    def loss(self) -> float:
        return float(self.values[0])

    @property
    def psnr(self) -> float:
        """PSNR of the step's pixels, in dB."""
        return mean_squared_to_psnr(float(self.values[1]))


class Trainer:
    """Trains one field; holds all state that changes between steps.

    On a GPU, steps run asynchronously and most of them are replayed from CUDA graphs.
    """

    def __init__(
        self,
        field: BlockField,
        pixels: PixelSampler,
        exposures: Float[Tensor, "frames"],
        config: TrainConfig,
        *,
        cuda_graphs: bool | None = None,
    ) -> None:
        """Create a trainer at step 0.

        Args:
            field: The field to train, on its device.
            pixels: Sampler of training pixels, on the field's device.
            exposures: Exposures of the images, on the field's device.
            config: Training options.
            cuda_graphs: Whether to capture steps as CUDA graphs; by default on a GPU.

        Raises:
            BackendError: The pixels are not on the field's device, or steps cannot be captured.
        """
        self.field, self.pixels, self.exposures, self.config = field, pixels, exposures, config
        self.device = field.origin.device
        _check_devices(self.device, pixels, cuda_graphs)
        if cuda_graphs and config.robust_trim:
            raise BackendError(
                f"trainer: no CUDA graphs with robust_trim {config.robust_trim:g}: {NO_GRAPHS_WITH_TRIM}; set it to 0"
            )
        self.optimizer = FieldOptimizer(field)
        self.inliers = InlierTracker(pixels.input_cameras) if config.robust_trim else None
        self.step = 0
        self.poses = self._pose_refiner()
        self.monitor = losses.LossMonitor(self.device)
        on_gpu = self.device.type == "cuda"
        self._generator = torch.Generator(self.device if on_gpu else "cpu")
        refines_poses = self.poses is not None and self.poses.has_multiple
        self._num_fading_levels = field.spec.num_levels if refines_poses else None
        self._schedule = DeviceSchedule(config, self._num_fading_levels, self.device) if pixels.fixed_shapes else None
        use_graphs = on_gpu and cuda_graphs is not False
        self._graphed = GraphedSteps(self._step_graphed, self._generator) if use_graphs else None

    def train_step(self) -> StepMetrics:
        """Run one step.

        Raises:
            TrainingError: The loss is not finite; names the step. On the CPU, nothing was updated. On a GPU, only
                `check` raises.
        """
        if self.step > 0 and self._progress.step == 0:
            self._restart_field()
        self.pixels.prefetch(self.step)
        seed = self.config.seed * 1_000_003 + self.step
        schedule = schedule_at(self.step, self.config, self._num_fading_levels)
        variant = StepVariant(
            trains_proposals=trains_proposals(self.step, self.config), fades_levels=schedule.num_levels is not None
        )
        pose_step = self.updates_poses and self._progress.step % POSE_UPDATE_EVERY == 0
        if self._schedule is not None:
            schedule = self._schedule.set_step(self.step)
        if self._graphed is not None and self._can_graph(pose_step):
            self._graphed.train_step(variant, seed)
        else:
            self._generator.manual_seed(seed)
            self._step(schedule, variant, pose_step)
        self.step += 1
        return StepMetrics(step=self.step, values=self.monitor.last.clone())

    @property
    def updates_poses(self) -> bool:
        """Whether some steps update poses."""
        return self._num_fading_levels is not None

    @property
    def replay(self) -> tuple[bool, str]:
        """Whether steps are replayed from CUDA graphs, and which ones or why not."""
        if self._graphed is None:
            return False, "cuda_graphs is False" if self.device.type == "cuda" else "CUDA graphs need a GPU"
        if self.inliers is not None:
            return False, NO_GRAPHS_WITH_TRIM
        return True, "all steps except those that update poses" if self.updates_poses else "all steps"

    @property
    def _progress(self) -> RoundProgress:
        return progress_at(self.step, self.config)

    def _restart_field(self) -> None:
        """Reinitialize the field and keep the refined poses.

        A field trained on wrong poses keeps them from improving. The parameters are overwritten in place, since CUDA
        graphs hold their addresses.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed + self.step)
            initial = dict(BlockField(self.field.spec).named_parameters())
        with torch.no_grad():
            for name, value in self.field.named_parameters():
                value.copy_(initial[name])
        self.optimizer.reset()
        if self.inliers is not None:
            self.inliers = InlierTracker(self.pixels.input_cameras)
        if self.poses is not None:
            self.poses.start_round()

    def check(self) -> None:
        """Wait for all steps so far and check their losses.

        Raises:
            TrainingError: A loss was not finite; names the first such step.
        """
        self.monitor.check()

    def _can_graph(self, pose_step: bool) -> bool:
        """Return whether a step can be captured and replayed.

        A pose step cannot, since it solves for poses on the CPU; for the other case, see `NO_GRAPHS_WITH_TRIM`.
        """
        return not pose_step and self.inliers is None

    def _step_graphed(self, variant: StepVariant) -> None:
        assert self._schedule is not None
        self._step(self._schedule.schedule, variant, pose_step=False)

    def _step(self, schedule: StepSchedule, variant: StepVariant, pose_step: bool) -> None:
        """Run one step. On a GPU it does not synchronize, except in the cases that `_can_graph` excludes."""
        if self._num_fading_levels is not None:
            self.field.base.active_levels = schedule.num_levels if variant.fades_levels else None
        batch = self._batch()
        rays = self.pixels.cameras.rays(batch.frames, batch.pixels, self.pixels.distortion_info)
        if pose_step:
            rays = rays.requires_grad_copy()
        # Not plain indexing: its backward pass sums in a nondeterministic order, and a resumed training would differ.
        codes = self.field.appearance_codes.index_select(0, batch.frames)
        outputs = render_rays(
            self.field,
            rays,
            codes,
            self.exposures[batch.frames],
            generator=self._generator,
            anneal=schedule.proposal_anneal,
            train_proposals=variant.trains_proposals,
            gradient_scaling_distance=GRADIENT_SCALING_DISTANCE * self.field.spec.half_extent,
        )
        color_loss = losses.photometric(outputs.color, batch.colors, self._inliers(outputs, batch))
        depth_tolerance = None if pose_step else schedule.depth_tolerance
        loss = color_loss + self._regularizers(outputs, batch, variant.trains_proposals, depth_tolerance)
        loss = loss + losses.visibility_loss(self.field, rays, outputs, self._generator)
        self.monitor.record(loss, color_loss, schedule.count)
        if self.device.type == "cpu":
            self.monitor.check()
        loss.backward()
        self.optimizer.step(schedule)
        if pose_step:
            self._update_poses(rays, batch, float(color_loss.detach()))

    def _batch(self) -> PixelBatch:
        rays = self.config.rays_per_step
        return self.pixels.batch(self.step, rays, int(rays * self.config.depth_ray_fraction), self._generator)

    def _sync_cameras(self) -> None:
        """Set the pixel sampler's cameras to the refined poses."""
        if self.poses is not None:
            self.pixels.set_cameras(self.poses.cameras())

    def _pose_refiner(self) -> PoseRefiner | None:
        if not self.config.pose_refinement:
            return None
        segment_of_frame = pose_segments(self.pixels.capture, self.config.pose_segment_length)
        block_segments = [segment_of_frame[index] for index in self.pixels.frames]
        return PoseRefiner(self.pixels.input_cameras, block_segments, self.field.spec.half_extent)

    def _update_poses(self, rays: RayBundle, batch: PixelBatch, squared_error: float) -> None:
        assert self.poses is not None
        at = self._progress
        self.poses.update(
            rays,
            batch.frames,
            squared_error=squared_error,
            update=at.step // POSE_UPDATE_EVERY,
            progress=at.progress,
        )
        self._sync_cameras()

    def state(self) -> dict[str, Tensor]:
        """Return all state for a checkpoint except the field's weights: moments, poses and outlier statistics."""
        poses = {} if self.poses is None else {f"poses.{name}": value for name, value in self.poses.state().items()}
        return self.optimizer.state() | poses | ({} if self.inliers is None else self.inliers.state())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the state from a checkpoint."""
        self.optimizer.restore(state)
        if self.poses is not None:
            self.poses.restore({name: state[f"poses.{name}"] for name in self.poses.state()})
            self._sync_cameras()
        if self.inliers is not None:
            self.inliers.restore(state)

    def _inliers(self, outputs: RayOutputs, batch: PixelBatch) -> Bool[Tensor, "rays"] | None:
        """Return the inlier mask of the rays; None without `robust_trim`."""
        if self.inliers is None:
            return None
        fraction = self.config.robust_trim * min(1.0, self._progress.progress / TRIM_WARM_UP_FRACTION)
        errors = (outputs.color.detach() - batch.colors).square().mean(-1)
        return self.inliers.inlier_mask(batch.frames, batch.pixels, errors, fraction)

    def _regularizers(
        self,
        outputs: RayOutputs,
        batch: PixelBatch,
        train_proposals: bool,
        depth_tolerance: float | Float[Tensor, ""] | None,
    ) -> Tensor:
        """Return all losses except color and visibility; without the geometry losses if `depth_tolerance` is None."""
        total = self.config.appearance_reg * losses.appearance_reg(self.field.appearance_codes)
        if train_proposals:
            total = total + sum(losses.interlevel(outputs.histogram, proposal) for proposal in outputs.proposals)
        # Only colors may move poses. The depth loss assumes a fixed measured distance, which changes as the camera
        # moves, and the distortion loss would move a camera to where surfaces look thin.
        if depth_tolerance is None:
            return total
        return total + self._geometry_losses(outputs, batch, depth_tolerance)

    def _geometry_losses(
        self, outputs: RayOutputs, batch: PixelBatch, depth_tolerance: float | Float[Tensor, ""]
    ) -> Tensor:
        total = self.config.distortion_weight * losses.distortion(outputs.histogram)
        if len(batch.depths):
            total = total + self.config.depth_weight * losses.measured_depth(outputs, batch.depths, depth_tolerance)
        if len(batch.sky):
            total = total + self.config.sky_weight * losses.sky_opacity(outputs.opacity, batch.sky)
        return total


def _check_devices(device: torch.device, pixels: PixelSampler, cuda_graphs: bool | None) -> None:
    if device.type != pixels.device.type:
        raise BackendError(f"trainer: the field is on {device}, its pixels on {pixels.device}; use one device")
    if cuda_graphs and device.type != "cuda":
        raise BackendError(f"trainer: CUDA graphs are not available on {device}; omit cuda_graphs or train on a GPU")
