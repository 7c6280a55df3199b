"""All steps in one command: from posed images to a fly-through and a report."""

import time
from pathlib import Path
from typing import Any, Literal

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import check_format_version, format_json, write_atomic
from blocknerf.importers.importer import DEFAULT_OPTIONS, ImportOptions
from blocknerf.json_file import read_json
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.locks import holder
from blocknerf.options import Preset, check_whole
from blocknerf.training.config import Overrides
from pipelines.align import align
from pipelines.cluster import LOCAL, ClusterOptions
from pipelines.console import format_duration, log, stage
from pipelines.evaluate import evaluate
from pipelines.ingest import ingest
from pipelines.match import match, segment_presets
from pipelines.partition import check_placement, partition
from pipelines.render import render
from pipelines.report import report
from pipelines.train import check_poses, check_training, train
from pipelines.training_log import difference

SETTINGS_FORMAT = "blocknerf.run/2"
OTHER_FOLDER_HINT = "choose another output folder"
NUM_STAGES = 8


def run(
    capture: Path,
    *,
    out: Path,
    source: ImportOptions = DEFAULT_OPTIONS,
    preset: Preset = "draft",
    steps: int | None = None,
    downscale: int | None = None,
    placement: Literal["auto", "route", "grid"] = "auto",
    blocks: Path | None = None,
    osm: Path | None = None,
    radius: float | None = None,
    pose_refinement: bool = False,
    pose_segment_length: float = 0.0,
    pose_restarts: int | None = None,
    test_every: int = 8,
    jobs: int | None = None,
    image_cache_gb: float = 1.5,
    threads: int | None = None,
    robust_trim: float = 0.0,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    device: Device = "auto",
    deterministic: bool = False,
    view: bool = False,
    cluster: ClusterOptions = LOCAL,
) -> RunFolder:
    """Run all steps: turn a capture into a trained city, a fly-through, metrics and a report.

    Skips a step if its output exists, so the same command resumes an interrupted run.

    Args:
        capture: Photos, a video, a transforms.json, a COLMAP model, an export of another program, or a driving log:
            a file or its folder. docs/captures.md lists all kinds.
        out: Run folder; created if it does not exist.
        source: Options of the import.
        preset: Quality preset. draft takes minutes per block without a GPU.
        steps: Training steps per block. Default: from the preset.
        downscale: Factor by which to downscale the images. Default: chosen to reach the preset's image size.
        placement: How to place blocks. auto chooses route for cameras on the ground and grid for aerial captures.
        blocks: File with hand-made blocks (JSON or GeoJSON), instead of --placement.
        osm: OpenStreetMap extract (.osm, .osm.bz2 or .osm.gz): places a block at each intersection, instead of
            --placement. Needs the extra 'streets' and a capture with a geographic origin.
        radius: Block radius in the capture's unit; with --osm, the largest one. Default: derived from the capture.
        pose_refinement: Refine the poses of each segment while a block trains.
        pose_segment_length: With --pose-refinement, split segments into pose segments of about this length, in the
            capture's unit, and refine each. For poses that drift. 0 refines each segment as a whole.
        pose_restarts: With --pose-refinement, train this many times, each time from scratch with the poses found so
            far. All but the last take at most 900 steps. Default: 3 with --pose-segment-length, otherwise 1.
        test_every: Hold out every n-th instant of each segment for evaluation, with all its cameras; 0 holds out
            none. Lists of test images in the capture come first.
        jobs: Blocks to train in parallel on CPU. Default: limited by cores and memory; 1 with --view.
        image_cache_gb: Memory for the images of a block, in GiB.
        threads: Number of CPU threads. Default: all cores.
        robust_trim: For images without masks: fraction of rays with the largest errors that may show moving objects
            and are ignored if their neighborhood has large errors too. Start with 0.15; 0 uses every pixel.
        seed: Random seed.
        overrides: Set a training or field parameter by name: training.grid_lr=0.01 or field.num_levels=10. Repeat the
            option to set several.
        device: Device for training and rendering: auto (a GPU if there is one), cpu, cuda or cuda:1.
        deterministic: Use deterministic algorithms on a GPU too, for reproducible results; slower.
        view: Show the blocks in the browser as they train. Needs the extra 'view'.
        cluster: Where blocks train.

    Returns:
        The run folder.

    Raises:
        BlockNerfError: The capture cannot be used, or the output folder contains another run.
    """
    # Check all options before any work.
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
    check_whole(threads=threads)
    source.check()
    parameters = Overrides.parse(overrides)
    check_poses(pose_refinement, pose_segment_length, pose_restarts)
    check_placement(radius, test_every)
    resolve_device(device)
    start = time.monotonic()
    folder = RunFolder(out)
    with stage("ingest", 1, NUM_STAGES):
        imported = ingest(capture, out, source=source)
    with stage("partition", 2, NUM_STAGES):
        city = partition(
            out,
            placement=placement,
            blocks=blocks,
            osm=osm,
            radius=radius,
            preset=preset,
            test_every=test_every,
        )
    poses = {
        "pose_refinement": pose_refinement,
        "pose_segment_length": pose_segment_length,
        "pose_restarts": pose_restarts,
    }
    settings = {"steps": steps, "downscale": downscale, **poses, "robust_trim": robust_trim, "seed": seed}
    _check_settings(folder, city, settings | parameters.to_json())
    with stage("train", 3, NUM_STAGES):
        train(
            out,
            steps=steps,
            downscale=downscale,
            pose_refinement=pose_refinement,
            pose_segment_length=pose_segment_length,
            pose_restarts=pose_restarts,
            jobs=jobs,
            image_cache_gb=image_cache_gb,
            threads=threads,
            robust_trim=robust_trim,
            seed=seed,
            overrides=overrides,
            device=device,
            deterministic=deterministic,
            view=view,
            cluster=cluster,
            keep_going=source.keep_going,
        )
    if busy := [block.name for block in city.blocks if holder(folder.training_lock(block.name))]:
        raise RunError(f"{out}: other processes train {', '.join(busy)}; run the same command again after them")
    with stage("align", 4, NUM_STAGES):
        align(out)
    with stage("match", 5, NUM_STAGES):
        default = match(out, threads=threads, device=device)
        segments = segment_presets(imported)
        for name in [name for name in segments if segments[name] != default.segment]:
            match(out, appearance=name, reference=segments[name], threads=threads, device=device)
    with stage("render", 6, NUM_STAGES):
        render(out, threads=threads, device=device)
    with stage("evaluate", 7, NUM_STAGES):
        evaluate(out, threads=threads, device=device)
    with stage("report", 8, NUM_STAGES):
        report(out)
    log(f"finished in {format_duration(time.monotonic() - start)}: {folder.report}")
    return folder


def _check_settings(folder: RunFolder, city: City, settings: dict[str, Any]) -> None:
    """Write the training settings of a run; if a block has started, compare them with the written ones instead.

    `ingest` and `partition` check their own settings. Settings that are off or left to the preset are not written, so
    that runs from before such an option existed can continue.

    Raises:
        RunError: The run was started with other settings.
    """
    settings = _non_default(settings)
    started = [block for block in city.blocks if folder.train_summary(block.name).exists()]
    started += [block for block in city.blocks if folder.checkpoint(block.name).exists()]
    if not (started and folder.run_settings.exists()):
        write_atomic(folder.run_settings, format_json({"format": SETTINGS_FORMAT, **settings}))
        return
    if differs := difference(read_settings(folder.run_settings), settings):
        raise RunError(f"{folder.path}: contains another run, with {differs}; {OTHER_FOLDER_HINT}")


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of `run.json` that are neither off nor left to the preset.

    Raises:
        RunError: The file is missing, broken or of another format.
    """
    written = read_json(path, "settings")
    check_format_version(written.pop("format", None), SETTINGS_FORMAT, path, OTHER_FOLDER_HINT)
    return _non_default(written)


def _non_default(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are neither off nor left to the preset."""
    return {key: value for key, value in settings.items() if value}
