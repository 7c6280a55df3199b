"""Retraining of one block on new images; the rest of the city is unchanged (Tancik et al. 2022, section 4.3.3)."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture
from blocknerf.capture.capture_file import read_capture, write_capture
from blocknerf.city.appearance_presets import AppearancePreset, read_preset, write_preset
from blocknerf.city.manifest import City, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import write_block_frames
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.files import write_atomic
from blocknerf.importers.recognition import load_source
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import exclusive
from blocknerf.partitioning.block_capture import read_block_capture, write_block_capture
from blocknerf.partitioning.frame_assignment import assign_frames, read_assignment, write_assignment
from blocknerf.training.setup import check_downscale
from pipelines.block_graph import AppearanceReference, BlockGraph
from pipelines.console import log, skip_if_exists, stage
from pipelines.ingest import check_pixels
from pipelines.train import check_training, train

MIN_IMAGE_RATIO = 0.5
"""Fewer new images than this fraction of the old ones cause a warning."""


def update(
    run: Path,
    *,
    block: str,
    capture: Path,
    steps: int | None = None,
    downscale: int | None = None,
    image_cache_gb: float = 1.5,
    threads: int | None = None,
    device: Device = "auto",
) -> RunFolder:
    """Retrain one block on new images and match it in every appearance preset. All other blocks are unchanged.

    Only the new images in the block or with a view of it count, since the old ones may show what is gone. The old
    block stays in use until the new one is finished. Run the same command again to resume.

    Args:
        run: Run folder in which the block is trained.
        block: Name of the block.
        capture: The new images, as for 'blocknerf ingest', with poses in the world frame of the run.
        steps: Optimization steps. Default: from the preset.
        downscale: Factor by which to downscale the images. Default: chosen to reach the preset's image size.
        image_cache_gb: Memory for the new images, in GiB.
        threads: Number of CPU threads. Default: all cores.
        device: Device for training: auto (a GPU if there is one), cpu, cuda or cuda:1.

    Returns:
        The run folder.

    Raises:
        BackendError: The device does not exist.
        OptionError: A number is out of range.
        RunError: The block is not trained yet, another update of it is unfinished, or the new capture does not fit
            the run.
        CaptureError: The new capture cannot be used.
        PlacementError: None of the new images shows the block.
    """
    check_training(steps=steps, downscale=downscale, image_cache_gb=image_cache_gb)
    set_num_threads(threads)
    torch_device, folder = resolve_device(device), RunFolder(run)
    city = read_city(folder.city)
    name = city.block(block).name
    if not folder.field(name).is_file():
        raise RunError(f"{folder.field(name)}: block {name} is not trained; run 'blocknerf train --block {name}'")
    new = _check_compatible(load_source(capture), read_capture(folder.capture), name)
    check_downscale(new, downscale)
    training = {
        "steps": steps,
        "downscale": downscale,
        "image_cache_gb": image_cache_gb,
        "threads": threads,
        "device": device,
    }
    with exclusive(folder.training_lock(name), f"block {name}: update"):
        _update(folder, city, name, new, torch_device, training)
    return folder


def _update(
    folder: RunFolder, city: City, name: str, new: Capture, device: torch.device, training: Mapping[str, Any]
) -> None:
    """Train the block on the new capture, match it, and replace the old one; resume if interrupted."""
    update_run, update_capture = folder.update_run(name), folder.update_capture(name, _capture_digest(new))
    if not update_run.city.is_file():
        if read_assignment(folder.frames(name)).capture == update_capture.name and skip_if_exists(update_capture):
            return
        _prepare(folder, city, name, new)
    elif _capture_digest(read_capture(update_run.capture)) != _capture_digest(new):
        raise RunError(
            f"{update_run.path}: an update from another capture is unfinished; finish it, or remove the folder"
        )
    if update_run.frames(name).is_file():
        with stage("train", 1, 2):
            train(update_run.path, block=name, **training)
        with stage("match", 2, 2):
            _match(folder, city, name, device)
    _publish(folder, name, update_capture)
    log(f"{name}: updated; run 'blocknerf render', 'evaluate' and 'report' again, since they show the old block")


def _check_compatible(new: Capture, known: Capture, block: str) -> Capture:
    """Return the new capture with unique names, and with exposures only if the run has them.

    Raises:
        RunError: It has another unit or world frame, or lacks exposures that the run's images have.
    """
    origins = {capture.geo_origin for capture in (new, known)} - {None}
    if len(origins) > 1:
        raise RunError("update: the new images have another geo_origin than the run; convert both to one world frame")
    if new.is_metric != known.is_metric:
        unit = "in meters" if known.is_metric else "not in meters"
        new_unit = "not" if known.is_metric else "in meters"
        raise RunError(f"update: the run is {unit}, but the new images are {new_unit}; convert both to one world frame")
    has_exposures = any(frame.exposure is not None for frame in known.frames)
    missing = next((frame.name for frame in new.frames if frame.exposure is None), None)
    if has_exposures and missing is not None:
        raise RunError(f"update: image {missing} has no exposure, but the run's images do; add it")
    frames = tuple(
        replace(
            frame,
            # The new capture may use the same names as the run's.
            name=f"{block}-update/{frame.name}",
            segment=f"{block}-update/{frame.segment}",
            exposure=frame.exposure if has_exposures else None,
        )
        for frame in new.frames
    )
    return replace(new, frames=frames)


def _capture_digest(capture: Capture) -> str:
    """Return a digest that identifies the images of an update."""
    return hashlib.sha256(repr((str(capture.image_dir.resolve()), capture.frames)).encode()).hexdigest()[:12]


def _prepare(folder: RunFolder, city: City, name: str, new: Capture) -> None:
    """Create a run folder for the block. Its city.json is written last: when it exists, the update has started."""
    update_run = folder.update_run(name)
    check_pixels(new)
    (member,) = assign_frames(new, [city.block(name)], test_every=city.test_every, allow_unassigned=True)
    before = len(read_assignment(folder.frames(name)).frames)
    log(f"{name}: {len(member.frames)} new images replace {before}")
    if len(member.frames) < MIN_IMAGE_RATIO * before:
        log(f"warning: the parts of block {name} that they do not show will be lost")
    shutil.rmtree(update_run.path, ignore_errors=True)
    write_capture(new, update_run.capture)
    write_block_frames(update_run, [member], new, city)
    write_atomic(update_run.city, folder.city.read_bytes())


def _match(folder: RunFolder, city: City, name: str, device: torch.device) -> None:
    """Write every appearance preset of the run, with a new code of the block, next to the block's new field."""
    presets = {preset: read_preset(folder.appearance_preset(preset)) for preset in folder.preset_names()}
    if set(folder.update_run(name).preset_names()) == set(presets):
        return
    graph = BlockGraph(folder, city, updated=name, device=device)
    overlaps, digest = graph.overlaps(around=name), fingerprint(graph.run_of(name).field(name))
    for preset_name, preset in presets.items():
        reference = AppearanceReference(frame=preset.frame, segment=preset.segment)
        known = {block: code for block, code in preset.codes.items() if block != name and block in graph.names}
        links = [overlap for overlap in overlaps if overlap.other(name) in known]
        matched = [result.code for result in graph.match(reference, links, known, preset.exposure)]
        if not matched:
            log(f"warning: preset {preset_name}: block {name} shares no view with others; it keeps its own appearance")
        code = matched[0] if matched else graph.unmatched_codes(reference)[name]
        write_preset(
            _with_code(preset, graph.num_matching_images(reference), name, code, digest),
            folder.update_run(name).appearance_preset(preset_name),
        )
    plural = "" if len(presets) == 1 else "s"
    log(f"{name}: matched in {len(presets)} appearance preset{plural} to {len(overlaps)} neighboring blocks")


def _with_code(
    preset: AppearancePreset, counts: Mapping[str, int], name: str, code: Tensor, digest: str
) -> AppearancePreset:
    """Return a preset with a new code for one block. If that is its reference block, another one becomes it."""
    reference_block = preset.reference_block
    if reference_block == name:
        others = preset.codes.keys() - {name}
        reference_block = max(others, key=lambda block: (counts.get(block, 0), block), default=name)
    return replace(
        preset,
        reference_block=reference_block,
        codes={**preset.codes, name: code},
        field_fingerprints={**preset.field_fingerprints, name: digest},
    )


def _publish(folder: RunFolder, name: str, update_capture: Path) -> None:
    """Replace the old block by the new one, in an order that leaves a block that renders at every moment.

    Files are moved out of the update's folder, so that an interrupted publication can resume.
    """
    update_run = folder.update_run(name)
    new = read_capture(update_run.capture)
    if update_run.frames(name).is_file():
        write_capture(new, update_capture)
        # Written again, not moved, since its folders are relative.
        write_block_capture(read_block_capture(update_run.block_capture(name)), folder.block_capture(name))
        member = read_assignment(update_run.frames(name), new)
        write_assignment(replace(member, capture=update_capture.name), new, folder.frames(name))
        update_run.frames(name).unlink()
    if update_run.field(name).is_file():
        # Cells that are empty in the old grid may be occupied in the new field; without a grid nothing is skipped. The
        # new poses are used as they are, so the corrections of the old ones do not apply either.
        folder.occupancy(name).unlink(missing_ok=True)
        folder.pose_corrections(name).unlink(missing_ok=True)
    for file in _files(update_run, name):
        if file.is_file():
            target = folder.path / file.relative_to(update_run.path)
            file.replace(target)
    for old in folder.block_folder(name).glob(folder.update_capture(name, "*").name):
        if old != update_capture:
            old.unlink()
    # Renamed first, so that the rest of an interrupted removal is not taken for an update.
    removed = update_run.path.with_name(f".{name}.done")
    shutil.rmtree(removed, ignore_errors=True)
    update_run.path.rename(removed)
    shutil.rmtree(removed)
    if not any(update_run.path.parent.iterdir()):
        update_run.path.parent.rmdir()


def _files(update_run: RunFolder, name: str) -> Iterator[Path]:
    """Yield the files that replace the old ones, in order: the field before its occupancy grid."""
    yield update_run.train_summary(name)
    yield update_run.log(name)
    yield update_run.field(name)
    yield update_run.occupancy(name)
    for preset in update_run.preset_names():
        yield update_run.appearance_preset(preset)
