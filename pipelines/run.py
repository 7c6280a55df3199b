"""The whole way in one command: from posed photographs to a fly-through and a report."""

import time
from pathlib import Path
from typing import Any, Literal

from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import check_format, format_json, read_json, write_atomic
from blocknerf.kernels.devices import Device, resolve
from blocknerf.locks import holder
from blocknerf.presets import Preset
from pipelines.evaluate import evaluate
from pipelines.ingest import ingest
from pipelines.job import duration, say, stage
from pipelines.match import match
from pipelines.partition import check_placement, partition
from pipelines.reconcile import reconcile
from pipelines.records import difference
from pipelines.render import render
from pipelines.report import report
from pipelines.train import check_poses, check_training, train

SETTINGS_FORMAT = "blocknerf.run/1"
ANOTHER = "choose another output folder"


def run(
    capture: Path,
    *,
    out: Path,
    preset: Preset = "draft",
    steps: int | None = None,
    downscale: int | None = None,
    placement: Literal["auto", "route", "grid"] = "auto",
    blocks_file: Path | None = None,
    streets: Path | None = None,
    radius: float | None = None,
    pose_refinement: bool = False,
    pose_stretch: float = 0.0,
    pose_rounds: int | None = None,
    held_out: int = 8,
    at_once: int | None = None,
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
        blocks_file: blocks by hand, JSON or GeoJSON, in place of a placement.
        streets: OpenStreetMap extract (.osm, plain or as .bz2 or .gz): a block at each of its intersections, in place
            of a placement. Needs the extra `streets`, and a capture with a geographic origin.
        radius: radius of a block in the capture's unit, with streets that of the largest; by default derived.
        pose_refinement: correct the poses of each segment together while a block trains.
        pose_stretch: with pose_refinement, correct stretches of a segment about this long, in the capture's unit, for
            poses that drift.
        pose_rounds: with pose_refinement, look for poses this many times, each time with a field begun anew from those
            found before; by default three times with pose_stretch, else once. All but the last take 900 steps at most.
        held_out: every n-th frame is kept from training and judged; 0 keeps none.
        at_once: blocks that train at the same time on a processor; by default as many as there are cores and memory
            for, and one where it is looked on.
        device: where to train and render: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.
        deterministic: add up in a fixed order on a GPU, too, so that the same command gives the same blocks; slower.
        view: show the blocks in the browser as they train. Needs the extra `view`.

    Raises:
        BlockNerfError: the capture cannot be used, or the output folder holds another run.
    """
    # All that can be refused before anything is begun.
    check_training(steps=steps, downscale=downscale, at_once=at_once, view=view)
    check_poses(pose_refinement, pose_stretch, pose_rounds)
    check_placement(radius, held_out)
    resolve(device)
    start = time.monotonic()
    folder = RunFolder(out)
    with stage("ingest"):
        ingest(capture, out)
    with stage("partition"):
        city = partition(
            out,
            placement=placement,
            blocks_file=blocks_file,
            streets=streets,
            radius=radius,
            preset=preset,
            held_out=held_out,
        )
    poses = {"pose_refinement": pose_refinement, "pose_stretch": pose_stretch, "pose_rounds": pose_rounds}
    _keep_to_settings(folder, city, {"steps": steps, "downscale": downscale, **poses})
    with stage("train"):
        train(
            out,
            steps=steps,
            downscale=downscale,
            pose_refinement=pose_refinement,
            pose_stretch=pose_stretch,
            pose_rounds=pose_rounds,
            at_once=at_once,
            device=device,
            deterministic=deterministic,
            view=view,
        )
    if busy := [block.name for block in city.blocks if holder(folder.training_lock(block.name))]:
        raise RunError(f"{out}: other processes train {', '.join(busy)}; run the same command again when they are done")
    with stage("reconcile"):
        reconcile(out)
    with stage("match"):
        match(out, device=device)
    with stage("render"):
        render(out, device=device)
    with stage("evaluate"):
        evaluate(out, device=device)
    with stage("report"):
        report(out)
    say(f"finished in {duration(time.monotonic() - start)}: {folder.report}")
    return folder


def _keep_to_settings(folder: RunFolder, city: City, settings: dict[str, Any]) -> None:
    """Note how blocks are trained, or refuse to train the rest of them otherwise.

    `ingest` and `partition` compare the rest of what a run was asked for. What is off or left to the preset is not
    written, so that runs begun before there was such an option go on.
    """
    settings = _chosen(settings)
    begun = [block for block in city.blocks if folder.train_record(block.name).exists()]
    begun += [block for block in city.blocks if folder.checkpoint(block.name).exists()]
    if not (begun and folder.settings.exists()):
        write_atomic(folder.settings, format_json({"format": SETTINGS_FORMAT, **settings}))
        return
    if differs := difference(read_settings(folder.settings), settings):
        raise RunError(f"{folder.path}: holds another run, with {differs}; {ANOTHER}")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of `run.json` that are neither off nor left to the preset.

    Raises:
        RunError: it is missing, broken or of another format.
    """
    written = read_json(path, "settings")
    check_format(written.pop("format", None), SETTINGS_FORMAT, path, ANOTHER)
    return _chosen(written)


def _chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that are neither off nor left to the preset."""
    return {key: value for key, value in settings.items() if value}
