"""The whole way in one command: from posed photographs to a fly-through and a report."""

import time
from pathlib import Path
from typing import Any, Literal

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import check_format_version, format_json, read_json, write_atomic
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.locks import holder
from blocknerf.quality import Preset
from pipelines.align import align
from pipelines.console import format_duration, log, stage
from pipelines.evaluate import evaluate
from pipelines.ingest import ingest
from pipelines.match import match
from pipelines.partition import check_placement, partition
from pipelines.render import render
from pipelines.report import report
from pipelines.train import check_poses, check_training, train
from pipelines.training_log import difference

SETTINGS_FORMAT = "blocknerf.run/2"
OTHER_FOLDER_HINT = "choose another output folder"


def run(
    capture: Path,
    *,
    out: Path,
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
    device: Device = "auto",
    deterministic: bool = False,
    view: bool = False,
) -> RunFolder:
    """Turn a capture into a trained city, its fly-through, its scores and its report.

    Whatever is done already in the output folder is skipped, so the same command goes on after it was stopped.

    Args:
        capture: the capture: a `transforms.json`, or the folder that holds one.
        out: the run folder, made where it does not exist.
        preset: how much work a block is worth; draft takes minutes a block without a GPU.
        steps: training steps a block; by default the preset's.
        downscale: whole number by which photographs are shrunk; by default chosen from their size.
        placement: how blocks are placed; auto takes route for cameras on the ground and grid for an aerial capture.
        blocks: blocks by hand, JSON or GeoJSON, in place of a placement.
        osm: OpenStreetMap extract (.osm, plain or as .bz2 or .gz): a block at each of its intersections, in place
            of a placement. Needs the extra `osm`, and a capture with a geographic origin.
        radius: radius of a block in the capture's unit, with streets that of the largest; by default derived.
        pose_refinement: correct the poses of each segment together while a block trains.
        pose_segment_length: with pose_refinement, correct stretches of a segment about this long, in the capture's unit, for
            poses that drift.
        pose_restarts: with pose_refinement, look for poses this many times, each time with a field begun anew from those
            found before; by default three times with pose_stretch, else once. All but the last take 900 steps at most.
        test_every: every n-th frame is kept from training and judged; 0 keeps none.
        jobs: blocks that train at the same time on a processor; by default as many as there are cores and memory
            for, and one where it is looked on.
        device: where to train and render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        deterministic: add up in a fixed order on a GPU, too, so that the same command gives the same blocks; slower.
        view: show the blocks in the browser as they train. Needs the extra `view`.

    Raises:
        BlockNerfError: the capture cannot be used, or the output folder holds another run.
    """
    # All that can be refused before anything is begun.
    check_training(steps=steps, downscale=downscale, jobs=jobs, view=view)
    check_poses(pose_refinement, pose_segment_length, pose_restarts)
    check_placement(radius, test_every)
    resolve_device(device)
    start = time.monotonic()
    folder = RunFolder(out)
    with stage("ingest"):
        ingest(capture, out)
    with stage("partition"):
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
    _check_settings(folder, city, {"steps": steps, "downscale": downscale, **poses})
    with stage("train"):
        train(
            out,
            steps=steps,
            downscale=downscale,
            pose_refinement=pose_refinement,
            pose_segment_length=pose_segment_length,
            pose_restarts=pose_restarts,
            jobs=jobs,
            device=device,
            deterministic=deterministic,
            view=view,
        )
    if busy := [block.name for block in city.blocks if holder(folder.training_lock(block.name))]:
        raise RunError(f"{out}: other processes train {', '.join(busy)}; run the same command again when they are done")
    with stage("align"):
        align(out)
    with stage("match"):
        match(out, device=device)
    with stage("render"):
        render(out, device=device)
    with stage("evaluate"):
        evaluate(out, device=device)
    with stage("report"):
        report(out)
    log(f"finished in {format_duration(time.monotonic() - start)}: {folder.report}")
    return folder


def _check_settings(folder: RunFolder, city: City, settings: dict[str, Any]) -> None:
    """Note how blocks are trained, or refuse to train the rest of them otherwise.

    `ingest` and `partition` compare the rest of what a run was asked for. What is off or left to the preset is not
    written, so that runs begun before there was such an option go on.
    """
    settings = _non_default(settings)
    begun = [block for block in city.blocks if folder.train_summary(block.name).exists()]
    begun += [block for block in city.blocks if folder.checkpoint(block.name).exists()]
    if not (begun and folder.run_settings.exists()):
        write_atomic(folder.run_settings, format_json({"format": SETTINGS_FORMAT, **settings}))
        return
    if differs := difference(read_settings(folder.run_settings), settings):
        raise RunError(f"{folder.path}: holds another run, with {differs}; {OTHER_FOLDER_HINT}")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of `run.json` that are neither off nor left to the preset.

    Raises:
        RunError: it is missing, broken or of another format.
    """
    written = read_json(path, "settings")
    check_format_version(written.pop("format", None), SETTINGS_FORMAT, path, OTHER_FOLDER_HINT)
    return _non_default(written)


def _non_default(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that are neither off nor left to the preset."""
    return {key: value for key, value in settings.items() if value}
