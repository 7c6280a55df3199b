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
ALIGNED = 64
"""Numbers to whose multiple each of the small parameters begins, for kernels that read several at once."""


class FieldOptimizer:
    """Adam that leaves table entries without a gradient untouched.

    The weights of the small networks lie side by side in memory, and take their step together: alone, each call would
    cost more than its work. A field has one optimizer at a time.
    """

    def __init__(self, field: BlockField) -> None:
        self.parameters: dict[str, Tensor] = dict(field.named_parameters())
        self.first = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self._small = {
            name: value for name, value in self.parameters.items() if not (name == "codes" or name.endswith("table"))
        }
        (values, places), (first, means), (second, squares) = (_side_by_side(self._small) for _ in range(3))
        for name, value in self._small.items():
            places[name].copy_(value.detach())
            value.data = places[name]
        self.first |= means
        self.second |= squares
        self._together = values, first, second
        self._zeros = torch.zeros_like(values)
        self.shadows = _shadows(field)
        """Copies of tables, which kernels on a GPU read, by the name of the table."""
        self._follow()

    def step(self, pace: Pace) -> None:
        """Apply and clear the gradients of a step."""
        for name, value in self.parameters.items():
            if value.grad is None or name in self._small:
                continue
            shadow = self.shadows.get(name)
            tensors = value.detach(), value.grad, self.first[name], self.second[name]
            _adam_step(*tensors, pace, _rate(name, pace), half=None if shadow is None else shadow.view(-1))
            value.grad = None
        values, first, second = self._together
        _adam_step(values, self._slopes(), first, second, pace, pace.network_rate)

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

    def _slopes(self) -> Float[Tensor, "numbers"]:
        """The gradients of the small parameters, in the order in which those lie; cleared where they were."""
        parts = []
        for value in self._small.values():
            slope = self._zeros[:0] if value.grad is None else value.grad.reshape(-1)
            parts += [slope, self._zeros[: _room(value) - len(slope)]]
            value.grad = None
        return torch.cat(parts)

    def _follow(self) -> None:
        # A step copies what it moves, and no more.
        for name, shadow in self.shadows.items():
            shadow.copy_(self.parameters[name].detach())


def _adam_step(
    value: Tensor,
    slope: Tensor,
    first: Tensor,
    second: Tensor,
    pace: Pace,
    rate: float | Float[Tensor, ""],
    half: Tensor | None = None,
) -> None:
    adam_step(
        *(tensor.view(-1) for tensor in (value, slope, first, second)),
        step=pace.age,
        rate=rate,
        betas=BETAS,
        epsilon=EPSILON,
        half=half,
    )


def _side_by_side(values: dict[str, Tensor]) -> tuple[Float[Tensor, "numbers"], dict[str, Tensor]]:
    """Zeros in one piece of memory, and the part of it for each of the values, of its shape."""
    rooms, one = [_room(value) for value in values.values()], next(iter(values.values()))
    memory = torch.zeros(sum(rooms), dtype=one.dtype, device=one.device)
    parts = zip(values.items(), memory.split(rooms), strict=True)
    return memory, {name: part[: value.numel()].view_as(value) for (name, value), part in parts}


def _room(value: Tensor) -> int:
    return -(-value.numel() // ALIGNED) * ALIGNED


def _rate(name: str, pace: Pace) -> float | Float[Tensor, ""]:
    return pace.code_rate if name == "codes" else pace.grid_rate


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
