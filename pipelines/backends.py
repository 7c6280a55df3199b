"""The job that shows which kernels run here, and why."""

import torch
from rich.table import Table

from blocknerf.kernels.backends import OPERATIONS, availability
from blocknerf.kernels.devices import Device, device_name, resolve_device
from pipelines.console import print_table


def backends(*, device: Device = "auto") -> None:
    """Print, for every operation, which backends can be used here and why; the first usable one is taken.

    The last column tells the limits of a backend. What is beyond them, the next one does; a warning says so, except
    where a gradient is needed.

    Args:
        device: Also tell of this device: auto, cpu, cuda, or cuda:1; by default of a GPU where there is one.

    Raises:
        BackendError: There is no such device.
    """
    chosen = resolve_device(device)
    print_table(_table(torch.device("cpu"), "the processor"))
    if chosen.type != "cpu":
        print_table(_table(chosen, device_name(chosen)))


def _table(device: torch.device, name: str) -> Table:
    table = Table("operation", "backend", "usable", "reason", "only for", title=f"Kernels for float32 on {name}")
    for operation in OPERATIONS:
        for verdict in availability(operation, device):
            usable = "yes" if verdict.usable else "no"
            table.add_row(verdict.operation, verdict.backend, usable, verdict.reason, verdict.takes)
    return table
