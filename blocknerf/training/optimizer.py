"""Adam for all parameters of a field, with warm-up and decay of the learning rates."""

import torch
from jaxtyping import Float
from torch import Tensor

from blocknerf.fields.block_field import BlockField
from blocknerf.fields.hash_grid_mlp import HashGridMLP
from blocknerf.kernels.adam import adam_step
from blocknerf.kernels.devices import STORAGE_DTYPE
from blocknerf.training.schedule import StepSchedule

BETAS = (0.9, 0.99)
"""Decay of the moments (instant-ngp)."""
EPSILON = 1e-15
"""Far below any gradient, so rarely hit table entries still move at the full rate (instant-ngp)."""
ALIGNMENT = 64
"""Alignment, in elements, of each MLP parameter in the flat buffer, for kernels that use vector loads."""


class FieldOptimizer:
    """Adam that skips table entries without a gradient.

    The MLP weights are moved to one flat buffer and updated by one call, since separate calls would cost more than
    their work. A field can have only one optimizer at a time.
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
        flat = [_flat_zeros(self._mlp_params) for _ in range(3)]
        (values, value_views), (exp_avg, exp_avg_views), (exp_avg_sq, exp_avg_sq_views) = flat
        for name, value in self._mlp_params.items():
            value_views[name].copy_(value.detach())
            value.data = value_views[name]
        self.exp_avg |= exp_avg_views
        self.exp_avg_sq |= exp_avg_sq_views
        self._flat_buffers = values, exp_avg, exp_avg_sq
        self._zeros = torch.zeros_like(values)
        self.half_tables = _half_tables(field)
        """Half-precision copies of the hash tables, read by GPU kernels, by parameter name."""
        self._sync_half_tables()

    def step(self, schedule: StepSchedule) -> None:
        """Apply and clear the gradients of a step."""
        for name, value in self.parameters.items():
            if value.grad is None or name in self._mlp_params:
                continue
            half = self.half_tables.get(name)
            tensors = value.detach(), value.grad, self.exp_avg[name], self.exp_avg_sq[name]
            _adam_step(*tensors, schedule, _lr(name, schedule), half=None if half is None else half.view(-1))
            value.grad = None
        values, exp_avg, exp_avg_sq = self._flat_buffers
        _adam_step(values, self._flat_gradients(), exp_avg, exp_avg_sq, schedule, schedule.mlp_lr)

    def reset(self) -> None:
        """Clear the moments; the parameters are kept."""
        for value in (*self.exp_avg.values(), *self.exp_avg_sq.values()):
            value.zero_()
        self._sync_half_tables()

    def state(self) -> dict[str, Tensor]:
        """Return the moments by parameter, for a checkpoint."""
        return {
            f"{kind}.{name}": value for kind in ("exp_avg", "exp_avg_sq") for name, value in getattr(self, kind).items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore the moments from a checkpoint. Restore the field's parameters first."""
        for key, value in self.state().items():
            value.copy_(state[key])
        self._sync_half_tables()

    def _flat_gradients(self) -> Float[Tensor, "numbers"]:
        """Return the gradients of the MLP parameters in the layout of the flat buffers, and clear them."""
        parts = []
        for value in self._mlp_params.values():
            gradient = self._zeros[:0] if value.grad is None else value.grad.reshape(-1)
            parts += [gradient, self._zeros[: _padded_size(value) - len(gradient)]]
            value.grad = None
        return torch.cat(parts)

    def _sync_half_tables(self) -> None:
        # A step updates only the entries that it changes, so the copies must match the tables before.
        for name, half in self.half_tables.items():
            half.copy_(self.parameters[name].detach())


def _adam_step(
    value: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    schedule: StepSchedule,
    lr: float | Float[Tensor, ""],
    half: Tensor | None = None,
) -> None:
    adam_step(
        *(tensor.view(-1) for tensor in (value, gradient, exp_avg, exp_avg_sq)),
        step=schedule.step_in_round,
        lr=lr,
        betas=BETAS,
        epsilon=EPSILON,
        half_copy=half,
    )


def _flat_zeros(values: dict[str, Tensor]) -> tuple[Float[Tensor, "numbers"], dict[str, Tensor]]:
    """Return a flat buffer of zeros, and a view into it for each value with the value's shape."""
    sizes, example = [_padded_size(value) for value in values.values()], next(iter(values.values()))
    buffer = torch.zeros(sum(sizes), dtype=example.dtype, device=example.device)
    parts = zip(values.items(), buffer.split(sizes), strict=True)
    return buffer, {name: part[: value.numel()].view_as(value) for (name, value), part in parts}


def _padded_size(value: Tensor) -> int:
    return -(-value.numel() // ALIGNMENT) * ALIGNMENT


def _lr(name: str, schedule: StepSchedule) -> float | Float[Tensor, ""]:
    return schedule.appearance_lr if name == "appearance_codes" else schedule.grid_lr


def _half_tables(field: BlockField) -> dict[str, Tensor]:
    """Return the half-precision copies of a field's tables; create missing ones for tables on a GPU."""
    half_tables = {}
    for name, module in field.named_modules():
        if isinstance(module, HashGridMLP):
            if module.half_table is None and module.table.is_cuda:
                module.half_table = torch.empty_like(module.table, dtype=STORAGE_DTYPE, requires_grad=False)
            if module.half_table is not None:
                half_tables[f"{name}.table"] = module.half_table
    return half_tables
