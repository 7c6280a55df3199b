"""Adam over all of a field's parameters, with rates that warm up and decay."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.hash_grid_mlp import HashGridMLP
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.precision import STORAGE_DTYPE
from blocknerf.training.schedule import StepSchedule

BETAS = (0.9, 0.99)
EPSILON = 1e-15
"""Far below any gradient: table entries that are rarely hit still move at full rate (instant-ngp)."""
ALIGNMENT = 64
"""Numbers to whose multiple each of the small parameters begins, for kernels that read several at once."""


class FieldOptimizer:
    """Adam that leaves table entries without a gradient untouched.

    The weights of the small networks lie side by side in memory, and take their step together: alone, each call would
    cost more than its work. A field has one optimizer at a time.
    """

    def __init__(self, field: BlockField) -> None:
        self.parameters: dict[str, Tensor] = dict(field.named_parameters())
        self.exp_avg = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self._mlp_params = {
            name: value
            for name, value in self.parameters.items()
            if not (name == "appearance_codes" or name.endswith("table"))
        }
        (values, places), (first, means), (second, squares) = (_flatten(self._mlp_params) for _ in range(3))
        for name, value in self._mlp_params.items():
            places[name].copy_(value.detach())
            value.data = places[name]
        self.exp_avg |= means
        self.exp_avg_sq |= squares
        self._flat_buffers = values, first, second
        self._zeros = torch.zeros_like(values)
        self.half_tables = _half_tables(field)
        """Copies of tables, which kernels on a GPU read, by the name of the table."""
        self._sync_half_tables()

    def step(self, pace: StepSchedule) -> None:
        """Apply and clear the gradients of a step."""
        for name, value in self.parameters.items():
            if value.grad is None or name in self._mlp_params:
                continue
            shadow = self.half_tables.get(name)
            tensors = value.detach(), value.grad, self.exp_avg[name], self.exp_avg_sq[name]
            _adam_step(*tensors, pace, _rate(name, pace), half=None if shadow is None else shadow.view(-1))
            value.grad = None
        values, first, second = self._flat_buffers
        _adam_step(values, self._flat_gradients(), first, second, pace, pace.mlp_lr)

    def reset(self) -> None:
        """Begin as new with the parameters as they are now."""
        for value in (*self.exp_avg.values(), *self.exp_avg_sq.values()):
            value.zero_()
        self._sync_half_tables()

    def state(self) -> dict[str, Tensor]:
        """Moments by parameter, for a checkpoint."""
        return {
            f"{kind}.{name}": value for kind in ("exp_avg", "exp_avg_sq") for name, value in getattr(self, kind).items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take moments back from a checkpoint; the field's parameters were before."""
        for key, value in self.state().items():
            value.copy_(state[key])
        self._sync_half_tables()

    def _flat_gradients(self) -> Float[Tensor, "numbers"]:
        """The gradients of the small parameters, in the order in which those lie; cleared where they were."""
        parts = []
        for value in self._mlp_params.values():
            slope = self._zeros[:0] if value.grad is None else value.grad.reshape(-1)
            parts += [slope, self._zeros[: _padded(value) - len(slope)]]
            value.grad = None
        return torch.cat(parts)

    def _sync_half_tables(self) -> None:
        # A step copies what it moves, and no more.
        for name, shadow in self.half_tables.items():
            shadow.copy_(self.parameters[name].detach())


def _adam_step(
    value: Tensor,
    slope: Tensor,
    first: Tensor,
    second: Tensor,
    pace: StepSchedule,
    rate: float | Float[Tensor, ""],
    half: Tensor | None = None,
) -> None:
    adam_step(
        *(tensor.view(-1) for tensor in (value, slope, first, second)),
        step=pace.step_in_round,
        rate=rate,
        betas=BETAS,
        epsilon=EPSILON,
        half=half,
    )


def _flatten(values: dict[str, Tensor]) -> tuple[Float[Tensor, "numbers"], dict[str, Tensor]]:
    """Zeros in one piece of memory, and the part of it for each of the values, of its shape."""
    rooms, one = [_padded(value) for value in values.values()], next(iter(values.values()))
    memory = torch.zeros(sum(rooms), dtype=one.dtype, device=one.device)
    parts = zip(values.items(), memory.split(rooms), strict=True)
    return memory, {name: part[: value.numel()].view_as(value) for (name, value), part in parts}


def _padded(value: Tensor) -> int:
    return -(-value.numel() // ALIGNMENT) * ALIGNMENT


def _rate(name: str, pace: StepSchedule) -> float | Float[Tensor, ""]:
    return pace.appearance_lr if name == "appearance_codes" else pace.grid_lr


def _half_tables(field: BlockField) -> dict[str, Tensor]:
    """The copies of a field's tables, made where they lie on a GPU and there is none yet."""
    found = {}
    for name, module in field.named_modules():
        if isinstance(module, HashGridMLP):
            if module.half_table is None and module.table.is_cuda:
                module.half_table = torch.empty_like(module.table, dtype=STORAGE_DTYPE, requires_grad=False)
            if module.half_table is not None:
                found[f"{name}.table"] = module.half_table
    return found
