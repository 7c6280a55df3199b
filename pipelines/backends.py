"""The job that shows which kernels run here, and why."""

from rich.table import Table

from blocknerf.kernels.backends import OPERATIONS, availability
from pipelines.job import show


def backends() -> None:
    """Print, for every operation, which backends can be used here and why; the first usable one is taken."""
    table = Table("operation", "backend", "usable", "reason", title="Kernels for float32 on the processor")
    for operation in OPERATIONS:
        for verdict in availability(operation):
            table.add_row(verdict.operation, verdict.backend, "yes" if verdict.usable else "no", verdict.reason)
    show(table)
