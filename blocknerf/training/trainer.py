"""The training loop of one block."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from blocknerf.cameras import RayBundle
from blocknerf.capture.stretches import stretches
from blocknerf.errors import BackendError
from blocknerf.fields.block_field import BlockField
from blocknerf.rendering.rays import RayRendering, render_rays
from blocknerf.sampling.proposal import Histogram
from blocknerf.training import losses
from blocknerf.training.captured import CapturedSteps, Kind
from blocknerf.training.config import TrainConfig
from blocknerf.training.crowds import OutlierCrowds
from blocknerf.training.device_pixels import DevicePixels
from blocknerf.training.loss_watch import LossWatch, psnr
from blocknerf.training.optimizer import FieldOptimizer
from blocknerf.training.pace import DevicePace, Pace, Place, learns_proposals, pace_at, place_of
from blocknerf.training.pixels import PixelBatch, PixelSource
from blocknerf.training.poses import LEARN_EVERY, PoseRefiner
from blocknerf.training.visibility import visibility_loss

NEAR_FADE = 0.15
"""Gradients fade below this share of the block's half extent from the camera."""
TRIM_SHARE = 0.3
"""Share of training over which the trimmed share of rays rises: at first the static errs no less than what moves."""
MOVING = ("intervals", "conditions")
"""Operations that steps which move poses differentiate by rays: only the reference does (`kernels.backends.FIXED`)."""
TRIMMED = "a trimmed loss asks for the errors of each step on the processor"
"""Why no step of it can be replayed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepReport:
    """What one step came to; on a GPU, asking for it waits until the step is done."""

    step: int
    figures: Float[Tensor, "2"]
    """Loss, and mean squared error of the colors."""

    @property
    def loss(self) -> float:
        return float(self.figures[0])

    @property
    def psnr(self) -> float:
        """Of the step's own pixels, in dB."""
        return psnr(float(self.figures[1]))


class Trainer:
    """A field in training: everything that changes from step to step.

    On a GPU a step is only put in a queue, and most steps are replayed from CUDA graphs.
    """

    def __init__(
        self,
        field: BlockField,
        pixels: PixelSource | DevicePixels,
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
        if captured and config.trim:
            raise BackendError(f"trainer: steps cannot be captured with trim {config.trim:g}: {TRIMMED}")
        self.optimizer = FieldOptimizer(field)
        self.crowds = OutlierCrowds(pixels.given) if config.trim else None
        self.step = 0
        self.poses = self._refiner()
        self.watch = LossWatch(self.device)
        on_gpu = self.device.type == "cuda"
        self._generator = torch.Generator(self.device if on_gpu else "cpu")
        self._fading = field.spec.levels if self.poses is not None and self.poses.several else None
        self._plan = DevicePace(config, self._fading, self.device) if isinstance(pixels, DevicePixels) else None
        self._captured = CapturedSteps(self._repeat, self._generator) if on_gpu and captured is not False else None

    def advance(self) -> StepReport:
        """Take one step.

        Raises:
            TrainingError: The loss is no longer finite; the step is named. On the processor nothing was updated then;
                on a GPU it is `check` that finds out.
        """
        if self.step > 0 and self._place.step == 0:
            self._begin_anew()
        self.pixels.show(self.step)
        seed = self.config.seed * 1_000_003 + self.step
        pace = pace_at(self.step, self.config, self._fading)
        kind = Kind(learns=learns_proposals(self.step, self.config), fades=pace.levels is not None)
        moves = self.moves_poses and self._place.step % LEARN_EVERY == 0
        if self._plan is not None:
            pace = self._plan.turn(self.step)
        if self._captured is not None and self._repeats(moves):
            self._captured.advance(kind, seed)
        else:
            self._generator.manual_seed(seed)
            self._take(pace, kind, moves)
        self.step += 1
        return StepReport(step=self.step, figures=self.watch.figures.clone())

    @property
    def moves_poses(self) -> bool:
        """Whether some steps move poses."""
        return self._fading is not None

    @property
    def replay(self) -> tuple[bool, str]:
        """Whether steps are replayed from CUDA graphs, and which, or why not."""
        if self._captured is None:
            return False, "captured is False" if self.device.type == "cuda" else "CUDA graphs need a GPU"
        if self.crowds is not None:
            return False, TRIMMED
        return True, "all but those that move poses" if self.moves_poses else "all steps"

    @property
    def _place(self) -> Place:
        return place_of(self.step, self.config)

    def _begin_anew(self) -> None:
        """Forget the field, and go on from the poses that it led to.

        What a field learned from wrong poses holds them there. In place, since graphs know where everything is.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed + self.step)
            fresh = dict(BlockField(self.field.spec).named_parameters())
        with torch.no_grad():
            for name, value in self.field.named_parameters():
                value.copy_(fresh[name])
        self.optimizer.forget()
        if self.crowds is not None:
            self.crowds = OutlierCrowds(self.pixels.given)
        if self.poses is not None:
            self.poses.set_out()

    def check(self) -> None:
        """Wait for the steps so far.

        Raises:
            TrainingError: the loss of one was not finite; names the first.
        """
        self.watch.check()

    def _repeats(self, moves: bool) -> bool:
        """Whether a step does to the letter what others did, so that a graph can take it.

        Here is all that cannot: a step that moves poses solves for them on the processor, and see TRIMMED.
        """
        return not moves and self.crowds is None

    def _repeat(self, kind: Kind) -> None:
        assert self._plan is not None
        self._take(self._plan.pace, kind, moves=False)

    def _take(self, pace: Pace, kind: Kind, moves: bool) -> None:
        """The step itself; on a GPU nothing in it waits, but for what `_repeats` tells of."""
        if self._fading is not None:
            self.field.base.active_levels = pace.levels if kind.fades else None
        batch = self._batch()
        rays = self.pixels.cameras.rays(batch.frames, batch.pixels, self.pixels.lenses)
        if moves:
            rays = rays.tracked()
        # Not plain indexing: its gradient is summed by threads in any order, and a resumed training would drift.
        codes = self.field.codes.index_select(0, batch.frames)
        seen = render_rays(
            self.field,
            rays,
            codes,
            self.exposures[batch.frames],
            generator=self._generator,
            anneal=pace.annealing,
            train_proposals=kind.learns,
            near_fade=NEAR_FADE * self.field.spec.half_extent,
        )
        color_loss = losses.photometric(seen.color, batch.colors, self._trusted(seen, batch))
        shapes = None if moves else pace.shell
        loss = color_loss + self._regularizers(seen, batch, kind.learns, shapes)
        loss = loss + visibility_loss(self.field, rays, seen, self._generator)
        self.watch.note(loss, color_loss, pace.count)
        if self.device.type == "cpu":
            self.watch.check()
        loss.backward()
        self.optimizer.step(pace)
        if moves:
            self._move_poses(rays, batch, float(color_loss.detach()))

    def _batch(self) -> PixelBatch:
        depth_rays = int(self.config.rays * self.config.depth_share) if self.pixels.has_depth else 0
        if isinstance(self.pixels, DevicePixels):
            return self.pixels.draw(self._generator, self.config.rays, depth_rays)
        return self.pixels.batch(self.step, self.config.rays, depth_rays)

    def _take_cameras(self) -> None:
        """Take the photographs to be from where they are now thought to be."""
        if self.poses is not None:
            self.pixels.place(self.poses.cameras())

    def _refiner(self) -> PoseRefiner | None:
        if not self.config.pose_refinement:
            return None
        every = stretches(self.pixels.capture, self.config.pose_stretch)
        own = [every[index] for index in self.pixels.frames]
        return PoseRefiner(self.pixels.given, own, self.field.spec.half_extent)

    def _move_poses(self, rays: RayBundle, batch: PixelBatch, squared_error: float) -> None:
        assert self.poses is not None
        place = self._place
        self.poses.update(
            rays,
            batch.frames,
            squared_error=squared_error,
            update=place.step // LEARN_EVERY,
            progress=place.progress,
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
        share = self.config.trim * min(1.0, self._place.progress / TRIM_SHARE)
        errors = (seen.color.detach() - batch.colors).square().mean(-1)
        return self.crowds.trusted(batch.frames, batch.pixels, errors, share)

    def _regularizers(
        self, seen: RayRendering, batch: PixelBatch, train_proposals: bool, shell: float | Float[Tensor, ""] | None
    ) -> Tensor:
        """All but the losses of color and visibility; those of shape too where a shell is given."""
        fine = Histogram(edges=seen.samples.edges, weights=seen.weights)
        total = self.config.code_weight * losses.code_prior(self.field.codes)
        if train_proposals:
            total = total + sum(losses.interlevel(fine, proposal) for proposal in seen.proposals)
        # Where a photograph was taken from, its colors alone say. The depth loss takes the measured distance as fixed,
        # though it changes as the camera moves, and by distortion a camera would go to where surfaces look thin.
        return total if shell is None else total + self._shape_losses(seen, fine, batch, shell)

    def _shape_losses(
        self, seen: RayRendering, fine: Histogram, batch: PixelBatch, shell: float | Float[Tensor, ""]
    ) -> Tensor:
        total = self.config.distortion_weight * losses.distortion(fine)
        if len(batch.depths):
            total = total + self.config.depth_weight * self._depth_loss(seen, batch.depths, shell)
        if len(batch.sky):
            total = total + self.config.sky_weight * losses.sky_opacity(seen.opacity, batch.sky)
        return total

    def _depth_loss(
        self, seen: RayRendering, depths: Float[Tensor, "measured"], shell: float | Float[Tensor, ""]
    ) -> Tensor:
        rows = slice(0, len(depths))
        sight = losses.line_of_sight(seen.weights[rows], seen.samples.middles[rows], depths, shell * depths)
        opacity = seen.opacity[rows]
        mean = (seen.weights[rows] * seen.samples.middles[rows]).sum(-1) / opacity.clamp_min(1e-3)
        return sight + losses.expected_depth(mean, depths, opacity)


def _check_places(device: torch.device, pixels: PixelSource | DevicePixels, captured: bool | None) -> None:
    if device.type == "cuda" and isinstance(pixels, PixelSource):
        raise BackendError(f"trainer: the field is on {device} and the pixels are not; give DevicePixels on {device}")
    if captured and device.type != "cuda":
        raise BackendError(f"trainer: steps cannot be captured on {device}; leave captured out, or train on a GPU")
