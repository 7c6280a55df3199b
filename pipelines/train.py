"""The training job: one block at a time, each as if it were alone."""

import time
from pathlib import Path

import torch

from blocknerf.capture.capture import read_capture
from blocknerf.city.manifest import read_city
from blocknerf.city.photographs import capture_with_images
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import OptionError, TrainingError
from blocknerf.kernels.backends import choose
from blocknerf.kernels.devices import Device, resolve, set_deterministic
from blocknerf.kernels.threads import use_threads
from blocknerf.locks import LockedError, exclusive
from blocknerf.options import check_number, check_positive, check_whole
from blocknerf.processes import end_with
from blocknerf.training.block_spec import check_downscale, default_downscale
from blocknerf.training.config import POSE_ROUNDS
from pipelines.apart import GIB, blocks_at_once, train_apart
from pipelines.block_training import BlockTraining
from pipelines.job import duration, say
from pipelines.onlooker import shown

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
    pose_stretch: float = 0.0,
    pose_rounds: int | None = None,
    image_cache_gb: float = 1.5,
    threads: int | None = None,
    at_once: int | None = None,
    trim: float = 0.0,
    seed: int = 0,
    device: Device = "auto",
    deterministic: bool = False,
    capture: Path | None = None,
    view: bool = False,
    beside: int | None = None,
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
        pose_stretch: With pose_refinement, correct stretches of a segment about this long, in the capture's unit, for
            poses that drift.
        pose_rounds: With pose_refinement, look for poses this many times, each time with a field begun anew from those
            found before; by default three times with pose_stretch, else once. All but the last take 900 steps at most.
        image_cache_gb: Memory that the images of a block may take, in GiB.
        threads: Processor threads; by default every core.
        at_once: Blocks that train at the same time on a processor, each with its share of the threads and an image
            cache of its own; by default as many as there are cores and memory for, and one where it is looked on.
        trim: For photographs without masks: share of rays, those with the largest errors, that may show what moved
            and are ignored where their surroundings err as well; 0.15 is a good start, 0 trusts every pixel.
        seed: Source of every random choice.
        device: Where to train: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        deterministic: Add up in a fixed order on a GPU, too, so that the same command gives the same block; slower.
        capture: Where the images are now, if the run or the capture was moved: the capture's folder; remembered.
        view: Show the blocks in the browser as they train. Needs the extra `view`.
        beside: Number of the process that started this one; training stops when that is gone, even if it was killed.

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
        at_once=at_once,
        image_cache_gb=image_cache_gb,
        trim=trim,
        seed=seed,
        view=view,
    )
    check_poses(pose_refinement, pose_stretch, pose_rounds)
    check_whole(beside=beside)
    end_with(beside)
    usable, place, folder = use_threads(threads), resolve(device), RunFolder(run)
    city, known = read_city(folder.city), read_capture(folder.capture)
    check_downscale(known, downscale)
    set_deterministic(deterministic)
    names = [city.block(block).name] if block else [each.name for each in city.blocks]
    choices = {
        "steps": steps,
        "downscale": downscale or default_downscale(known, city.preset),
        "pose_refinement": pose_refinement,
        "pose_stretch": pose_stretch,
        "pose_rounds": pose_rounds or (POSE_ROUNDS if pose_stretch else 1),
        "memory": int(image_cache_gb * GIB),
        "trim": trim,
        "seed": seed,
    }
    todo = [name for name in names if not folder.field(name).exists()]
    images = capture_with_images(folder, capture) if todo else known
    # Who started this one has compiled them already, or could not.
    if todo and beside is None and choose("radiance", "auto", torch.empty(0, device=place)) == "native":
        _compile_kernels(usable)
    for name in names:
        if name not in todo:
            say(f"{name}: trained already")
    alone = view or place.type != "cpu"
    memory = image_cache_gb + RESERVED_BYTES / GIB
    at_once = min(at_once or (1 if alone else blocks_at_once(usable, memory)), len(todo))
    if at_once > 1:
        own = {"threads": max(1, usable // at_once), "device": place, "deterministic": deterministic}
        shared = {key: value for key, value in choices.items() if key != "memory"}
        train_apart(run, todo, at_once, {**shared, "image_cache_gb": image_cache_gb, **own})
    else:
        with shown(run, view):
            for name in todo:
                _train_alone(
                    BlockTraining(folder, city, images, name, choices, place, view),
                    wanted=bool(block) and beside is None,
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
                say(f"{training.name}: takes over from {before}, which was killed")
            if not training.folder.field(training.name).exists():
                training.run()
    except LockedError as error:
        if wanted:
            raise
        say(f"skipping {error}")


def check_training(
    *,
    steps: int | None = None,
    downscale: int | None = None,
    at_once: int | None = None,
    image_cache_gb: float = 1.5,
    trim: float = 0.0,
    seed: int = 0,
    view: bool = False,
) -> None:
    """Refuse options of `train` that are out of range, or do not go together.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options.
    """
    check_whole(steps=steps, downscale=downscale, at_once=at_once)
    check_whole(least=0, seed=seed)
    check_positive(image_cache_gb=image_cache_gb)
    if not 0.0 <= trim < 1.0:
        raise OptionError(f"--trim {trim:g} is not from 0 to below 1; give the share of rays that may be ignored")
    if view and at_once and at_once > 1:
        raise TrainingError(f"--at-once {at_once} does not go with --view, which shows one block; leave one out")


def check_poses(pose_refinement: bool, pose_stretch: float, pose_rounds: int | None) -> None:
    """Refuse stretches that are no length, rounds that are none, and either where nothing is corrected.

    Raises:
        OptionError: names the option and its range.
        TrainingError: names the options that do not go together.
    """
    check_number(pose_stretch=pose_stretch)
    check_whole(pose_rounds=pose_rounds)
    if pose_stretch and not pose_refinement:
        raise TrainingError("--pose-stretch has no meaning without --pose-refinement; add it")
    if pose_rounds is not None and pose_rounds > 1 and not pose_refinement:
        raise TrainingError("--pose-rounds has no meaning without --pose-refinement; add it")


def _compile_kernels(processes: int) -> None:
    from blocknerf.kernels.ahead import GROUPS, compile_ahead, compiled_ahead

    if not compiled_ahead():
        started = time.monotonic()
        say("kernels: compiling them for this processor; once, and about a minute on two cores")
        failures = compile_ahead(processes)
        groups = f"{len(GROUPS) - len(failures)} of {len(GROUPS)} groups " if failures else ""
        say(f"kernels: {groups}compiled in {duration(time.monotonic() - started)}")
        for failure in failures:
            after = "its kernels compile when they are first called, or fail there with the full error"
            say(f"kernels: the group {failure.group} failed to compile: {failure.reason}; {after}")
