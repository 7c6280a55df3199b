"""The training job: one block at a time, each as if it were alone."""

import time
from pathlib import Path

import torch

from blocknerf.capture.capture import read_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_images
from blocknerf.errors import OptionError, TrainingError
from blocknerf.kernels.backends import choose
from blocknerf.kernels.devices import Device, resolve_device, set_deterministic
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import LockedError, clear_abandoned, exclusive
from blocknerf.options import check_number, check_positive, check_whole
from blocknerf.processes import end_with
from blocknerf.training.block_spec import check_downscale, default_downscale
from blocknerf.training.config import POSE_RESTARTS
from pipelines.block_training import BlockTraining
from pipelines.console import format_duration, log
from pipelines.live_viewer import live_viewer
from pipelines.parallel import GIB, max_parallel_blocks, train_parallel

RESERVED_BYTES = 5 << 29
"""What a training takes besides the image cache: the interpreter, the kernels, the field and one step.

Measured at the peak: 0.75 GiB for a draft block, 0.9 for standard, 1.7 for fine, and 0.4 more with two million points.
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
    device: Device = "auto",
    deterministic: bool = False,
    capture: Path | None = None,
    view: bool = False,
    parent_pid: int | None = None,
) -> list[str]:
    """Train the blocks of a run that are not trained yet, and give their names.

    A block that was stopped goes on from its last checkpoint, exactly as if it had not been. Blocks that another
    process trains at the same time are left to it.

    Args:
        run: Run folder, partitioned.
        block: Train only this block.
        steps: Optimization steps a block; by default the preset's.
        downscale: Reduce photographs by this factor; by default the preset's image size decides.
        pose_refinement: Correct the poses of each segment together while a block trains.
        pose_segment_length: With pose_refinement, correct stretches of a segment about this long, in the capture's unit, for
            poses that drift.
        pose_restarts: With pose_refinement, look for poses this many times, each time with a field begun anew from those
            found before; by default three times with pose_stretch, else once. All but the last take 900 steps at most.
        image_cache_gb: Memory that the images of a block may take, in GiB.
        threads: Processor threads; by default every core.
        jobs: Blocks that train at the same time on a processor, each with its share of the threads and an image
            cache of its own; by default as many as there are cores and memory for, and one where it is looked on.
        robust_trim: For photographs without masks: share of rays, those with the largest errors, that may show what moved
            and are ignored where their surroundings err as well; 0.15 is a good start, 0 trusts every pixel.
        seed: Source of every random choice.
        device: Where to train: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        deterministic: Add up in a fixed order on a GPU, too, so that the same command gives the same block; slower.
        capture: Where the images are now, if the run or the capture was moved: the capture's folder; remembered.
        view: Show the blocks in the browser as they train. Needs the extra `view`.
        parent_pid: Number of the process that started this one; training stops when that is gone, even if it was killed.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        TrainingError: Options do not go together, or training met a number that is not finite.
        RunError: The folder is not partitioned, or a file of it is broken or of a training with other settings.
        LockedError: Another process trains the one block that was asked for.
    """
    check_training(
        steps=steps,
        downscale=downscale,
        jobs=jobs,
        image_cache_gb=image_cache_gb,
        robust_trim=robust_trim,
        seed=seed,
        view=view,
    )
    check_poses(pose_refinement, pose_segment_length, pose_restarts)
    check_whole(parent_pid=parent_pid)
    end_with(parent_pid)
    usable, place, folder = set_num_threads(threads), resolve_device(device), RunFolder(run)
    city, known = read_city(folder.city), read_capture(folder.capture)
    check_downscale(known, downscale)
    set_deterministic(deterministic)
    names = [city.block(block).name] if block else [each.name for each in city.blocks]
    choices = {
        "steps": steps,
        "downscale": downscale or default_downscale(known, city.preset),
        "pose_refinement": pose_refinement,
        "pose_segment_length": pose_segment_length,
        "pose_restarts": pose_restarts or (POSE_RESTARTS if pose_segment_length else 1),
        "image_cache_bytes": int(image_cache_gb * GIB),
        "robust_trim": robust_trim,
        "seed": seed,
    }
    todo = [name for name in names if not folder.field(name).exists()]
    images = capture_with_images(folder, capture) if todo else known
    # Who started this one has compiled them already, or could not.
    if todo and parent_pid is None and choose("radiance", "auto", torch.empty(0, device=place)) == "numba":
        _compile_kernels(usable)
    for name in names:
        if name not in todo:
            log(f"skipping {name}: {folder.field(name)} exists")
            clear_abandoned(folder.training_lock(name))
    alone = view or place.type != "cpu"
    memory = image_cache_gb + RESERVED_BYTES / GIB
    jobs = min(jobs or (1 if alone else max_parallel_blocks(usable, memory)), len(todo))
    if jobs > 1:
        own = {"threads": max(1, usable // jobs), "device": place, "deterministic": deterministic}
        shared = {key: value for key, value in choices.items() if key != "image_cache_bytes"}
        train_parallel(run, todo, jobs, {**shared, "image_cache_gb": image_cache_gb, **own})
    else:
        with live_viewer(run, view):
            for name in todo:
                _train_alone(
                    BlockTraining(folder, city, images, name, choices, place, view),
                    wanted=bool(block) and parent_pid is None,
                )
    return [name for name in todo if folder.field(name).exists()]


def _train_alone(training: BlockTraining, *, wanted: bool) -> None:
    """Train a block that no other process trains; one that is not `wanted` in particular is left to that.

    Raises:
        LockedError: another process trains the block that is wanted.
    """
    try:
        with exclusive(training.folder.training_lock(training.name), f"block {training.name}: training") as before:
            if before is not None:
                log(f"{training.name}: takes over from {before}, which was killed")
            if not training.folder.field(training.name).exists():
                training.run()
    except LockedError as error:
        if wanted:
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
) -> None:
    """Refuse options of `train` that are out of range, or do not go together.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options.
    """
    check_whole(steps=steps, downscale=downscale, jobs=jobs)
    check_whole(least=0, seed=seed)
    check_positive(image_cache_gb=image_cache_gb)
    if not 0.0 <= robust_trim < 1.0:
        raise OptionError(
            f"--robust-trim {robust_trim:g} is not from 0 to below 1; give the share of rays that may be ignored"
        )
    if view and jobs and jobs > 1:
        raise TrainingError(f"--jobs {jobs} does not go with --view, which shows one block; leave one out")


def check_poses(pose_refinement: bool, pose_segment_length: float, pose_restarts: int | None) -> None:
    """Refuse stretches that are no length, rounds that are none, and either where nothing is corrected.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options that do not go together.
    """
    check_number(pose_segment_length=pose_segment_length)
    check_whole(pose_restarts=pose_restarts)
    if pose_segment_length and not pose_refinement:
        raise TrainingError("--pose-segment-length has no meaning without --pose-refinement; add it")
    if pose_restarts is not None and pose_restarts > 1 and not pose_refinement:
        raise TrainingError("--pose-restarts has no meaning without --pose-refinement; add it")


def _compile_kernels(processes: int) -> None:
    from blocknerf.kernels.precompile import GROUPS, is_precompiled, precompile

    if not is_precompiled():
        started = time.monotonic()
        log("kernels: compiling them for this processor; once, and about a minute on two cores")
        failures = precompile(processes)
        groups = f"{len(GROUPS) - len(failures)} of {len(GROUPS)} groups " if failures else ""
        log(f"kernels: {groups}compiled in {format_duration(time.monotonic() - started)}")
        for failure in failures:
            after = "its kernels compile when they are first called, or fail there with the full error"
            log(f"kernels: the group {failure.group} failed to compile: {failure.reason}; {after}")
