"""Training on a Ray cluster: one task a block. Needs the extra 'cluster'.

A task trains its block through the run folder, which all machines share, and returns nothing else. If its machine
vanishes, the task starts again on another one and resumes from the block's last checkpoint.
"""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import BlockNerfError, OptionError, TrainingError
from blocknerf.locks import LockedError, holder
from blocknerf.options import check_number, check_whole
from blocknerf.values import first_line
from pipelines.console import format_duration, log, print_table, table
from pipelines.parallel import collecting_failures
from pipelines.training_log import read_log

Engine = Literal["local", "ray"]

MAX_RETRIES = 100
"""Restarts of a block after its process or machine vanished, as spot machines often do; a restart loses little."""
TRANSIENT_ERRORS = (LockedError, OSError, MemoryError)
"""Errors of a task that another attempt, perhaps on another machine, may not see."""
LEASE_SECONDS = 600.0
"""Time to wait for another process that holds the block's lock; one that was cut off from the cluster may live on."""
POLL_SECONDS, PROGRESS_SECONDS = 2.0, 20.0
CONNECT_SECONDS = 10.0
START_ATTEMPTS = 3
"""On a busy machine, Ray may not start within its limit of 30 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Where blocks train."""

    engine: Engine = "local"
    """Where blocks train: local, on this machine; ray, as tasks of a Ray cluster that shares the run folder. Needs the
    extra 'cluster'."""
    address: str | None = None
    """With --engine ray: address of the cluster, as host:port, or auto for the one this machine belongs to. Default:
    start a cluster of this machine alone."""
    gpus_per_block: float | None = None
    """With --engine ray: GPUs of each block; a fraction lets blocks share one. Default: 1 if the cluster has GPUs,
    otherwise 0."""
    cpus_per_block: int | None = None
    """With --engine ray: CPU cores of each block. Default: 2, or 1 on a machine with one core."""

    def check(self) -> None:
        """Raise if an option is out of range, or given without `--engine ray`.

        Raises:
            OptionError: The message names the option.
        """
        check_whole(cpus_per_block=self.cpus_per_block)
        if self.gpus_per_block is not None:
            check_number(gpus_per_block=self.gpus_per_block)
        given = {"address": self.address, "gpus-per-block": self.gpus_per_block, "cpus-per-block": self.cpus_per_block}
        for name, value in given.items():
            if self.engine == "local" and value is not None:
                raise OptionError(f"--{name} needs --engine ray; add it, or leave out --{name}")


LOCAL = ClusterOptions()

Train = Callable[..., object]
"""`pipelines.train.train`: run folder, and the name of one block as `block`."""


def train_on_cluster(
    train: Train,
    run: Path,
    names: Sequence[str],
    options: Mapping[str, Any],
    cluster: ClusterOptions,
    *,
    keep_going: bool = False,
) -> None:
    """Train blocks as tasks of a Ray cluster.

    Args:
        train: The job, which each task calls for one block.
        run: Run folder, at the same path on all machines.
        names: Blocks to train.
        options: Options of `train`, the same for every block.
        cluster: Which cluster, and what each block takes of it.
        keep_going: Train the other blocks if one fails.

    Raises:
        TrainingError: A block failed, or the cluster cannot be used. Without `keep_going`, the others were stopped;
            they resume from their checkpoints next time.
    """
    with _connected(cluster.address) as ray:
        nodes = ray.nodes()
        cpus, gpus = _share(cluster, nodes)
        machines = sum(node["Alive"] for node in nodes)
        where = f"{machines} machine{'' if machines == 1 else 's'}"
        log(f"training {len(names)} blocks on a Ray cluster of {where}, each with {_resources(cpus, gpus)}")
        # One block per process, so that its memory, also that on the GPU, is free afterwards.
        task = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=MAX_RETRIES, retry_exceptions=list(TRANSIENT_ERRORS)
        )(_train_block)
        options = {**options, "threads": cpus}
        waiting = {task.remote(train, str(run.resolve()), name, options): name for name in names}
        _wait(ray, waiting, _Progress(RunFolder(run), names), keep_going)


def _wait(ray: Any, waiting: dict[Any, str], progress: "_Progress", keep_going: bool) -> None:
    """Wait for all tasks, and show their progress.

    Raises:
        TrainingError: A block failed.
    """
    try:
        with collecting_failures(keep_going) as attempt:
            while waiting:
                finished, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_SECONDS)
                for reference in finished:
                    name = waiting.pop(reference)
                    with attempt():
                        _check_result(ray, reference, name)
                        progress.finish(name)
                progress.show(list(waiting.values()))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _check_result(ray: Any, reference: Any, name: str) -> None:
    """Raise if a block failed.

    Raises:
        TrainingError: Why it failed.
    """
    try:
        failure = ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)  # of a task; others are of the cluster
        failure = f"block {name}: {first_line(error if cause is None else cause)}"
    if failure is not None:
        raise TrainingError(failure)


def _train_block(train: Train, run: str, name: str, options: Mapping[str, Any]) -> str | None:
    """Train one block in a process of a cluster; return why it failed, or None.

    Errors that a user can fix are returned, since they would come again. Others are raised; Ray tries again after those
    that may pass.
    """
    folder, deadline = RunFolder(Path(run)), time.monotonic() + LEASE_SECONDS
    if not folder.city.is_file():
        return f"{run}: is not on machine {platform.node()}; all machines must share the run folder, at this path"
    # The process of an earlier attempt may live on, cut off from the cluster.
    while holder(folder.training_lock(name)) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    try:
        train(folder.path, block=name, **options)
    except LockedError:
        raise  # Another process was faster, or the lock was looked at in this moment.
    except BlockNerfError as error:
        return str(error)
    return None


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one of this machine; disconnect, and end it if it was started here.

    Raises:
        TrainingError: Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise TrainingError("--engine ray needs Ray; install it with: pip install 'blocknerf[cluster]'") from None
    try:
        _start(ray, address)
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, address: str | None) -> None:
    """Connect to a cluster, or start one of this machine.

    Raises:
        TrainingError: There is no such cluster, or none starts.
    """
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            _check_reachable(address)
            ray.init(address=address, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"--address {address}: there is no Ray cluster ({first_line(error)}); "
                "start one with 'ray start --head', or check the address"
            ) from None
        return
    log("starting a Ray cluster of this machine; it listens on all network interfaces while blocks train")
    failures = (_start_failure(ray, options) for _ in range(START_ATTEMPTS))
    for number, failure in enumerate(failures, start=1):
        if failure is None:
            return
        if number == START_ATTEMPTS:
            raise TrainingError(f"--engine ray: Ray does not start ({failure}); try again, or use --engine local")


def _check_reachable(address: str) -> None:
    """Raise if nothing listens at host:port; Ray would try for many minutes.

    Raises:
        OSError, ValueError: There is no such host, or nothing listens.
    """
    host, separator, port = address.rpartition(":")
    if separator:
        socket.create_connection((host.removeprefix("ray://"), int(port)), CONNECT_SECONDS).close()


def _start_failure(ray: Any, options: Mapping[str, Any]) -> str | None:
    """Start a cluster of this machine; return why it did not start, or None."""
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:  # Ray raises a plain Exception if it starts too slowly.
        ray.shutdown()
        return first_line(error)
    return None


def _share(cluster: ClusterOptions, nodes: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """Return the CPU cores and GPUs that a block takes of one of the machines."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    most_cpus = max((int(machine.get("CPU", 0)) for machine in resources), default=0)
    most_gpus = max((machine.get("GPU", 0.0) for machine in resources), default=0.0)
    cpus = cluster.cpus_per_block or min(2, max(1, most_cpus))
    gpus = min(1.0, most_gpus) if cluster.gpus_per_block is None else cluster.gpus_per_block
    if cpus > most_cpus or gpus > most_gpus:
        log(f"warning: no machine of the cluster has {_resources(cpus, gpus)} yet; blocks wait for one")
    return cpus, gpus


def _resources(cpus: int, gpus: float) -> str:
    cores = f"{cpus} CPU core{'' if cpus == 1 else 's'}"
    return f"{cores} and {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else cores


class _Progress:
    """Lines on the blocks that train, read from their logs in the run folder."""

    def __init__(self, folder: RunFolder, names: Sequence[str]) -> None:
        self._folder, self._total, self._done = folder, len(names), 0
        self._started = self._shown = time.monotonic()

    def finish(self, name: str) -> None:
        """Report that a block is trained."""
        self._done += 1
        log(f"{name}: trained, {self._done} of {self._total}")

    def show(self, waiting: Sequence[str]) -> None:
        """Print a table of the blocks that train now, and the time left, every `PROGRESS_SECONDS`."""
        now = time.monotonic()
        if now - self._shown < PROGRESS_SECONDS or not waiting:
            return
        self._shown, rows = now, []
        for name in waiting:
            who, lines = holder(self._folder.training_lock(name)), read_log(self._folder.log(name))
            if who is not None and lines:
                last = lines[-1]
                rows.append((name, str(last.step), f"{last.psnr:.1f}", f"{last.rays_per_second:,.0f}", who))
        if rows:
            print_table(table(("block", "step", "PSNR", "rays/s", "trained by"), rows))
        if self._done:
            left = (now - self._started) / self._done * len(waiting)
            log(f"{self._done} of {self._total} blocks trained, about {format_duration(left)} left")
