"""Schedules of a training: values that depend only on the step number."""

import math
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.training.config import TrainConfig
from blocknerf.training.poses import active_levels

ANNEAL_FRACTION = 0.1
"""Fraction of a round over which proposal weights are annealed from uniform to their own."""
PROPOSAL_UPDATE_EVERY = 2
"""After the annealing, proposals are trained on every n-th step, since the field changes slowly by then."""
DEPTH_TOLERANCE_START, DEPTH_TOLERANCE_END = 0.2, 0.04
"""Tolerance of the line-of-sight loss around a measured depth, relative to the depth, at the start and the end."""
WARM_UP_STEPS = 50
"""Steps over which the learning rates rise to their initial values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """Scheduled values of one step; on a GPU, scalar tensors with the values of the current step."""

    count: int | Float[Tensor, ""]
    """Step number, counted from one."""
    step_in_round: int | Float[Tensor, ""]
    """Step number within the round, counted from one."""
    proposal_anneal: float | Float[Tensor, ""]
    """Exponent on the proposals' weights."""
    depth_tolerance: float | Float[Tensor, ""]
    """Tolerance around a measured depth, relative to the depth."""
    num_levels: float | Float[Tensor, ""] | None
    """Number of active hash levels; None for all."""
    grid_lr: float | Float[Tensor, ""]
    mlp_lr: float | Float[Tensor, ""]
    appearance_lr: float | Float[Tensor, ""]


class StepVariant(NamedTuple):
    """Differences between steps other than in tensor values; each variant has its own CUDA graph."""

    trains_proposals: bool
    """Whether the step trains the proposal networks."""
    fades_levels: bool
    """Whether hash levels are still fading in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundProgress:
    """Position of a step within its round. Each round trains a new field; refined poses carry over to the next."""

    step: int
    """Step number within the round, counted from zero."""
    steps: int
    """Steps of the round."""

    @property
    def progress(self) -> float:
        """Completed fraction of the round."""
        return self.step / self.steps


def progress_at(step: int, config: TrainConfig) -> RoundProgress:
    """Return the position of a step, counted from zero, within its round."""
    last_round_start = config.total_steps - config.steps
    if step < last_round_start:
        return RoundProgress(step=step % config.pose_steps, steps=config.pose_steps)
    return RoundProgress(step=step - last_round_start, steps=config.steps)


def schedule_at(step: int, config: TrainConfig, num_fading_levels: int | None = None) -> StepSchedule:
    """Return the scheduled values of a step, counted from zero.

    `num_fading_levels` is the number of hash levels if they fade in, else None.
    """
    at = progress_at(step, config)
    lr_factor = min(1.0, (at.step + 1) / WARM_UP_STEPS) * config.final_ratio(at.steps) ** at.progress
    tolerance_ratio = DEPTH_TOLERANCE_END / DEPTH_TOLERANCE_START
    return StepSchedule(
        count=step + 1,
        step_in_round=at.step + 1,
        proposal_anneal=min(1.0, at.progress / ANNEAL_FRACTION),
        depth_tolerance=DEPTH_TOLERANCE_START * tolerance_ratio ** min(1.0, at.progress),
        num_levels=None if num_fading_levels is None else active_levels(at.progress, num_fading_levels),
        grid_lr=config.grid_lr * lr_factor,
        mlp_lr=config.mlp_lr * lr_factor,
        appearance_lr=config.appearance_lr * lr_factor,
    )


def trains_proposals(step: int, config: TrainConfig) -> bool:
    """Return whether a step trains the proposal networks."""
    return progress_at(step, config).progress < ANNEAL_FRACTION or step % PROPOSAL_UPDATE_EVERY == 0


class DeviceSchedule:
    """Schedule in fixed tensors on a device, which CUDA graphs read."""

    def __init__(self, config: TrainConfig, num_fading_levels: int | None, device: torch.device | str) -> None:
        # The values of all steps are copied in advance: copies per step would synchronize, or be overwritten while
        # they are in flight.
        steps = [astuple(schedule_at(step, config, num_fading_levels)) for step in range(config.total_steps + 1)]
        # None (all levels) is stored as inf, which no step reads.
        rows = [[math.inf if value is None else float(value) for value in values] for values in steps]
        self._table = torch.tensor(rows, device=device)
        self._current = torch.zeros_like(self._table[0])
        names = [field.name for field in fields(StepSchedule)]
        self.schedule = StepSchedule(**dict(zip(names, self._current.unbind(), strict=True)))

    def set_step(self, step: int) -> StepSchedule:
        """Set the values to those of a step, or of the last step if `step` is beyond it; return them."""
        self._current.copy_(self._table[min(step, len(self._table) - 1)])
        return self.schedule
