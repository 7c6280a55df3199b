"""Adam over all of a field's parameters, with rates that warm up and decay."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.grid_network import GridNetwork
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.precision import STORED
from blocknerf.training.pace import Pace

BETAS = (0.9, 0.99)
EPSILON = 1e-15
"""Far below any gradient: table entries that are rarely hit still move at full rate (instant-ngp)."""


class FieldOptimizer:
    """Adam that leaves table entries without a gradient untouched."""

    def __init__(self, field: BlockField) -> None:
        self.parameters = dict(field.named_parameters())
        self.first = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.shadows = _shadows(field)
        """Copies of tables, which kernels on a GPU read, by the name of the table."""
        self._follow()

    def step(self, pace: Pace) -> None:
        """Apply and clear the gradients of a step."""
        for name, value in self.parameters.items():
            if value.grad is None:
                continue
            shadow = self.shadows.get(name)
            adam_step(
                value.detach().view(-1),
                value.grad.view(-1),
                self.first[name].view(-1),
                self.second[name].view(-1),
                step=pace.age,
                rate=_rate(name, pace),
                betas=BETAS,
                epsilon=EPSILON,
                zero_gradient=False,
                half=None if shadow is None else shadow.view(-1),
            )
            value.grad = None

    def forget(self) -> None:
        """Begin as new with the parameters as they are now."""
        for value in (*self.first.values(), *self.second.values()):
            value.zero_()
        self._follow()

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter, for a checkpoint."""
        return {f"{kind}.{name}": value for kind in ("first", "second") for name, value in getattr(self, kind).items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take moments back from a checkpoint; the field's parameters were before."""
        for key, value in self.state().items():
            value.copy_(state[key])
        self._follow()

    def _follow(self) -> None:
        # A step copies what it moves, and no more.
        for name, shadow in self.shadows.items():
            shadow.copy_(self.parameters[name].detach())


def _rate(name: str, pace: Pace) -> float | Float[Tensor, ""]:
    if name.endswith("table"):
        return pace.grid_rate
    return pace.code_rate if name == "codes" else pace.network_rate


def _shadows(field: BlockField) -> dict[str, Tensor]:
    """The copies of a field's tables, made where they lie on a GPU and there is none yet."""
    found = {}
    for name, module in field.named_modules():
        if isinstance(module, GridNetwork):
            if module.shadow is None and module.table.is_cuda:
                module.shadow = torch.empty_like(module.table, dtype=STORED, requires_grad=False)
            if module.shadow is not None:
                found[f"{name}.table"] = module.shadow
    return found
