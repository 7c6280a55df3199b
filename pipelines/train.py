"""The training job. Each block trains independently of the others."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import block_capture, block_capture_with_images, capture_with_images
from blocknerf.errors import OptionError, TrainingError
from blocknerf.kernels.backends import choose
from blocknerf.kernels.devices import Device, resolve_device, set_deterministic
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import LockedError, clear_abandoned, exclusive, waiting
from blocknerf.options import check_number, check_positive, check_whole
from blocknerf.processes import end_with
from blocknerf.training.config import POSE_RESTARTS, Overrides
from blocknerf.training.setup import check_downscale, default_downscale
from pipelines.block_training import BlockTraining
from pipelines.cluster import LOCAL, ClusterOptions, train_on_cluster
from pipelines.console import format_duration, log
from pipelines.parallel import GIB, collecting_failures, live_viewer, max_parallel_blocks, train_parallel

RESERVED_BYTES = 5 << 29
"""Memory of training without the image cache: the interpreter, the kernels, the field and one step.

Measured peaks: 0.75 GiB for a draft block, 0.9 for standard, 1.7 for fine; 0.4 more with two million points.
"""


def train(
    run: Path,
    *,
    block: str | None = None,
    steps: int | None = None,
    downscale: int | None = None,
    pose_refinement: bool = False,
    pose_segment_length: float = 0.0,
    pose_restarts: int | None = None,
    image_cache_gb: float = 1.5,
    threads: int | None = None,
    jobs: int | None = None,
    robust_trim: float = 0.0,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    device: Device = "auto",
    deterministic: bool = False,
    capture: Path | None = None,
    view: bool = False,
    cluster: ClusterOptions = LOCAL,
    keep_going: bool = False,
    parent_pid: int | None = None,
) -> list[str]:
    """Train the blocks of a run that are not trained yet.

    An interrupted block resumes from its last checkpoint, with the same result as without the interruption. Blocks
    that another process is training are skipped.

    Args:
        run: Run folder, partitioned.
        block: Train only this block. Default: all blocks.
        steps: Optimization steps per block. Default: from the preset.
        downscale: Factor by which to downscale the images. Default: chosen to reach the preset's image size.
        pose_refinement: Refine the poses of each segment while a block trains.
        pose_segment_length: With --pose-refinement, split segments into pose segments of about this length, in the
            capture's unit, and refine each. For poses that drift. 0 refines each segment as a whole.
        pose_restarts: With --pose-refinement, train this many times, each time from scratch with the poses found so
            far. All but the last take at most 900 steps. Default: 3 with --pose-segment-length, otherwise 1.
        image_cache_gb: Memory for the images of a block, in GiB.
        threads: Number of CPU threads. Default: all cores.
        jobs: Blocks to train in parallel on CPU, each with an equal part of the threads and an image cache of its
            own. Default: limited by cores and memory; 1 with --view.
        robust_trim: For images without masks: fraction of rays with the largest errors that may show moving objects
            and are ignored if their neighborhood has large errors too. Start with 0.15; 0 uses every pixel.
        seed: Random seed.
        overrides: Set a training or field parameter by name: training.grid_lr=0.01 or field.num_levels=10. Repeat the
            option to set several.
        device: Device for training: auto (a GPU if there is one), cpu, cuda or cuda:1.
        deterministic: Use deterministic algorithms on a GPU too, for reproducible results; slower.
        capture: Folder of the capture, if it or the run was moved; remembered. Default: as recorded in the run.
        view: Show the blocks in the browser as they train. Needs the extra 'view'.
        cluster: Where blocks train.
        keep_going: Train the other blocks if one fails; the command still fails in the end.
        parent_pid: ID of the parent process. Training stops when that process ends, even if it was killed.

    Returns:
        The names of the blocks that this call trained.

    Raises:
        BackendError: The device does not exist.
        OptionError: A number is out of range.
        TrainingError: Options cannot be combined, a value became NaN or infinite in training, or the cluster cannot
            be used.
        RunError: The run is not partitioned, or a file is broken or from a training with other settings.
        LockedError: Another process is training the one requested block.
    """
    check_training(
        steps=steps,
        downscale=downscale,
        jobs=jobs,
        image_cache_gb=image_cache_gb,
        robust_trim=robust_trim,
        seed=seed,
        view=view,
        cluster=cluster,
    )
    check_poses(pose_refinement, pose_segment_length, pose_restarts)
    parameters = Overrides.parse(overrides)
    check_whole(parent_pid=parent_pid)
    end_with(parent_pid)
    on_ray = cluster.engine == "ray"
    # The machines of a cluster have other devices than this one.
    torch_device = torch.device("cpu") if on_ray else resolve_device(device)
    num_threads, folder = set_num_threads(threads), RunFolder(run)
    city = read_city(folder.city)
    names = [city.block(block).name] if block else [item.name for item in city.blocks]
    part = block_capture(folder, names[0])
    check_downscale(part, downscale)
    set_deterministic(deterministic)
    choices = {
        "steps": steps,
        "downscale": downscale or default_downscale(part, city.preset),
        "pose_refinement": pose_refinement,
        "pose_segment_length": pose_segment_length,
        "pose_restarts": pose_restarts or (POSE_RESTARTS if pose_segment_length else 1),
        "image_cache_bytes": int(image_cache_gb * GIB),
        "robust_trim": robust_trim,
        "seed": seed,
        **parameters.training,
    }
    todo = [name for name in names if not folder.field(name).exists()]
    if todo and capture is not None:
        capture_with_images(folder, capture)
    if todo:
        block_capture_with_images(folder, todo[0])
    # A parent process has compiled them already, or failed to.
    is_first = bool(todo) and parent_pid is None and not on_ray
    if is_first and choose("radiance", "auto", torch.empty(0, device=torch_device)) == "numba":
        _compile_kernels(num_threads)
    for name in names:
        if name not in todo:
            log(f"skipping {name}: {folder.field(name)} exists")
            clear_abandoned(folder.training_lock(name))
    serial = view or torch_device.type != "cpu"
    memory = image_cache_gb + RESERVED_BYTES / GIB
    jobs = min(jobs or (1 if serial else max_parallel_blocks(num_threads, memory)), len(todo))
    # Options of the process of one block.
    separate = {"image_cache_bytes", *parameters.training}
    options: dict[str, Any] = {key: value for key, value in choices.items() if key not in separate}
    options |= {"image_cache_gb": image_cache_gb, "deterministic": deterministic}
    if on_ray and todo:
        options |= {"overrides": overrides, "device": device}
        train_on_cluster(train, run, todo, options, cluster, keep_going=keep_going)
    elif jobs > 1:
        options |= {"set": overrides, "device": torch_device, "threads": max(1, num_threads // jobs)}
        train_parallel(run, todo, jobs, options, keep_going=keep_going)
    else:
        with live_viewer(run, view), collecting_failures(keep_going) as attempt:
            for name in todo:
                with attempt():
                    _train_block(
                        BlockTraining(folder, city, name, choices, parameters.field, torch_device, view),
                        requested=bool(block) and parent_pid is None,
                    )
    return [name for name in todo if folder.field(name).exists()]


def _train_block(training: BlockTraining, *, requested: bool) -> None:
    """Train a block under its lock. If another process is training it, skip it unless it was explicitly requested.

    Raises:
        LockedError: Another process is training the requested block.
    """
    try:
        with exclusive(training.folder.training_lock(training.name), f"block {training.name}: training") as killed:
            if killed is not None:
                log(f"{training.name}: taking over from {killed}, which was killed")
            if not training.folder.field(training.name).exists():
                training.run()
    except LockedError as error:
        if requested:
            raise
        log(f"skipping {error}")


def check_training(
    *,
    steps: int | None = None,
    downscale: int | None = None,
    jobs: int | None = None,
    image_cache_gb: float = 1.5,
    robust_trim: float = 0.0,
    seed: int = 0,
    view: bool = False,
    cluster: ClusterOptions = LOCAL,
) -> None:
    """Raise if options of `train` are out of range or cannot be combined.

    Raises:
        OptionError: An option is out of range; the message names it and its range.
        TrainingError: Options cannot be combined; the message names them.
    """
    check_whole(steps=steps, downscale=downscale, jobs=jobs)
    check_whole(least=0, seed=seed)
    check_positive(image_cache_gb=image_cache_gb)
    cluster.check()
    if not 0.0 <= robust_trim < 1.0:
        raise OptionError(
            f"--robust-trim {robust_trim:g} is not in [0, 1); give the fraction of rays that may be ignored"
        )
    if view and jobs and jobs > 1:
        raise TrainingError(f"--jobs {jobs} cannot be combined with --view, which shows one block; leave one out")
    for option, given in (("--jobs", jobs is not None), ("--view", view)):
        if given and cluster.engine == "ray":
            raise TrainingError(f"{option} cannot be combined with --engine ray, which has its own; leave {option} out")


def check_poses(pose_refinement: bool, pose_segment_length: float, pose_restarts: int | None) -> None:
    """Raise if options of pose refinement are out of range, or given without `--pose-refinement`.

    Raises:
        OptionError: An option is out of range; the message names it and its range.
        TrainingError: Options cannot be combined; the message names them.
    """
    check_number(pose_segment_length=pose_segment_length)
    check_whole(pose_restarts=pose_restarts)
    if pose_segment_length and not pose_refinement:
        raise TrainingError("--pose-segment-length needs --pose-refinement; add it")
    if pose_restarts is not None and pose_restarts > 1 and not pose_refinement:
        raise TrainingError("--pose-restarts needs --pose-refinement; add it")


def _compile_kernels(processes: int) -> None:
    from blocknerf.kernels.precompile import GROUPS, is_precompiled, precompile

    # Once for all processes of the machine, which share the compiled kernels.
    with waiting(Path(tempfile.gettempdir()) / f"blocknerf-kernels-{os.getuid()}.lock"):
        if is_precompiled():
            return
        started = time.monotonic()
        log("compiling CPU kernels (first run only, about 1 min on 2 cores)")
        failures = precompile(processes)
        groups = f"{len(GROUPS) - len(failures)} of {len(GROUPS)} groups of " if failures else ""
        log(f"compiled {groups}CPU kernels in {format_duration(time.monotonic() - started)}")
        for failure in failures:
            consequence = "its kernels compile on first use, or fail there with the full error"
            log(f"warning: CPU kernels: group {failure.group} did not compile: {failure.reason}; {consequence}")
