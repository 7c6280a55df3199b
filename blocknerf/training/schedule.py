"""What changes from step to step of a training by plan alone."""

import math
from dataclasses import astuple, dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.training.config import TrainConfig
from blocknerf.training.poses import active_levels

ANNEAL_FRACTION = 0.1
"""Share of training over which proposal weights sharpen from even to their own."""
PROPOSAL_UPDATE_EVERY = 2
"""After the annealing, proposals learn on every n-th step: they follow a field that moves slowly."""
SHELL_START, SHELL_END = 0.2, 0.04
"""Half-width of the shell around a measured depth, as a share of the depth, at the start and at the end."""
WARM_UP_STEPS = 50
"""Steps over which learning rates rise to their start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """The numbers of one step; on a GPU, tensors without axes that hold those of the step that is taken."""

    count: int | Float[Tensor, ""]
    """Which step it is, counted from one."""
    step_in_round: int | Float[Tensor, ""]
    """The same, counted from when the field was begun."""
    proposal_anneal: float | Float[Tensor, ""]
    """Exponent on the proposals' weights."""
    depth_tolerance: float | Float[Tensor, ""]
    """Half-width of the shell around a measured depth, as a share of the depth."""
    num_levels: float | Float[Tensor, ""] | None
    """How many hash levels are on; None for all."""
    grid_lr: float | Float[Tensor, ""]
    mlp_lr: float | Float[Tensor, ""]
    appearance_lr: float | Float[Tensor, ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundProgress:
    """Where a step stands in its round: one training, after which poses may be the start of another."""

    step: int
    """Counted from zero."""
    steps: int
    """Of the round."""

    @property
    def progress(self) -> float:
        """Share of the round that is done."""
        return self.step / self.steps


def progress_at(step: int, config: TrainConfig) -> RoundProgress:
    """The place of step number `step` of a training, counted from zero."""
    last = config.total_steps - config.steps
    if step < last:
        return RoundProgress(step=step % config.pose_steps, steps=config.pose_steps)
    return RoundProgress(step=step - last, steps=config.steps)


def schedule_at(step: int, config: TrainConfig, fading: int | None = None) -> StepSchedule:
    """The pace of step number `step`, counted from zero; `fading` is the number of hash levels where they fade in."""
    place = progress_at(step, config)
    factor = min(1.0, (place.step + 1) / WARM_UP_STEPS) * config.lr_final_ratio**place.progress
    return StepSchedule(
        count=step + 1,
        step_in_round=place.step + 1,
        proposal_anneal=min(1.0, place.progress / ANNEAL_FRACTION),
        depth_tolerance=SHELL_START * (SHELL_END / SHELL_START) ** min(1.0, place.progress),
        num_levels=None if fading is None else active_levels(place.progress, fading),
        grid_lr=config.grid_lr * factor,
        mlp_lr=config.mlp_lr * factor,
        appearance_lr=config.appearance_lr * factor,
    )


def trains_proposals(step: int, config: TrainConfig) -> bool:
    """Whether the proposals learn on a step."""
    return progress_at(step, config).progress < ANNEAL_FRACTION or step % PROPOSAL_UPDATE_EVERY == 0


class DeviceSchedule:
    """A pace on a device, whose tensors stay where they are from step to step: a CUDA graph reads them."""

    def __init__(self, config: TrainConfig, fading: int | None, device: torch.device | str) -> None:
        # All steps at once: numbers sent one by one would be waited for, or be overwritten while they are under way.
        paces = [astuple(schedule_at(step, config, fading)) for step in range(config.total_steps + 1)]
        # Where all levels are on, nobody asks how many.
        rows = [[math.inf if number is None else float(number) for number in numbers] for numbers in paces]
        self._plan = torch.tensor(rows, device=device)
        self._now = torch.zeros_like(self._plan[0])
        names = [field.name for field in fields(StepSchedule)]
        self.schedule = StepSchedule(**dict(zip(names, self._now.unbind(), strict=True)))

    def set_step(self, step: int) -> StepSchedule:
        """Set the pace to that of a step; those after the last go on like it."""
        self._now.copy_(self._plan[min(step, len(self._plan) - 1)])
        return self.schedule
