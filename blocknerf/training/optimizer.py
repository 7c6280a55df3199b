"""Adam over all of a field's parameters, with rates that warm up and decay."""

import torch
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.kernels.adam import adam_step
from blocknerf.training.config import TrainConfig

WARM_UP_STEPS = 50
BETAS = (0.9, 0.99)
EPSILON = 1e-15
"""Far below any gradient: table entries that are rarely hit still move at full rate (instant-ngp)."""


class FieldOptimizer:
    """Adam that leaves table entries without a gradient untouched."""

    def __init__(self, field: BlockField, config: TrainConfig) -> None:
        self.config = config
        self.parameters = dict(field.named_parameters())
        self.first = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.parameters.items()}

    def step(self, step: int) -> None:
        """Apply and clear the gradients of step number `step`, counted from zero."""
        factor = min(1.0, (step + 1) / WARM_UP_STEPS) * self.config.final_rate ** (step / self.config.steps)
        for name, value in self.parameters.items():
            if value.grad is None:
                continue
            adam_step(
                value.detach().view(-1),
                value.grad.view(-1),
                self.first[name].view(-1),
                self.second[name].view(-1),
                step=step + 1,
                rate=self._rate(name) * factor,
                betas=BETAS,
                epsilon=EPSILON,
                zero_gradient=False,
            )
            value.grad = None

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter, for a checkpoint."""
        return {f"{kind}.{name}": value for kind in ("first", "second") for name, value in getattr(self, kind).items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take moments back from a checkpoint."""
        for key, value in self.state().items():
            value.copy_(state[key])

    def _rate(self, name: str) -> float:
        if name.endswith("table"):
            return self.config.grid_rate
        return self.config.code_rate if name == "codes" else self.config.network_rate
