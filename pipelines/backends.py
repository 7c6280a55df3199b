"""The job that lists the kernel backends of this machine."""

import torch
from rich.table import Table

from blocknerf.kernels.backends import OPERATIONS, availability
from blocknerf.kernels.devices import Device, device_name, resolve_device
from pipelines.console import print_table


def backends(*, device: Device = "auto") -> None:
    """Print which kernel backends can be used here for each operation, and why. The first usable one is chosen.

    The last column lists the limits of a backend. Beyond them the next backend runs, and a warning says so unless a
    gradient is needed.

    Args:
        device: Device to list in addition to the CPU: auto (a GPU if there is one), cpu, cuda or cuda:1.

    Raises:
        BackendError: The device does not exist.
    """
    resolved = resolve_device(device)
    print_table(_table(torch.device("cpu"), "CPU"))
    if resolved.type != "cpu":
        print_table(_table(resolved, device_name(resolved)))


def _table(device: torch.device, name: str) -> Table:
    table = Table("operation", "backend", "usable", "reason", "only for", title=f"Kernels for float32 on {name}")
    for operation in OPERATIONS:
        for verdict in availability(operation, device):
            usable = "yes" if verdict.usable else "no"
            table.add_row(verdict.operation, verdict.backend, usable, verdict.reason, verdict.limits)
    return table
