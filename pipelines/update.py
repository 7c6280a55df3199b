"""One block anew, from new photographs, in a city that otherwise stays as it is (Tancik et al. 2022, section 4.3.3)."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blocknerf.capture.capture import Capture, read_capture, write_capture
from blocknerf.city.appearance_presets import AppearancePreset, read_preset, write_preset
from blocknerf.city.manifest import City, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.fields.checkpoint import fingerprint
from blocknerf.files import write_atomic
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import exclusive
from blocknerf.partition.frame_assignment import assign_frames, read_assignment, write_assignment
from blocknerf.training.block_spec import check_downscale
from pipelines.block_graph import AppearanceReference, BlockGraph
from pipelines.console import log, skip_if_exists, stage
from pipelines.ingest import check_pixels, load_capture
from pipelines.train import check_training, train

MIN_IMAGE_RATIO = 0.5
"""New photographs fewer than this share of the old ones deserve a warning."""


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
    """Train one block anew on new photographs, match its code in every look, and leave all other blocks as they are.

    Only the new photographs count, those that stand in the block or see it: the old ones show what is no longer
    there. The old block serves until the new one is whole; the same command goes on where it was stopped.

    Args:
        run: The run folder, in which the block is trained.
        block: The block.
        capture: The new photographs, as for `blocknerf ingest`; their poses, in the world frame of the run, are taken
            as they are.
        steps: Optimization steps; by default the preset's.
        downscale: Reduce photographs by this factor; by default the preset's image size decides.
        image_cache_gb: Memory that the new images may take, in GiB.
        threads: Processor threads; by default every core.
        device: Where to work: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        RunError: The block is not trained yet, another update of it was begun, or the new capture is not measured like
            the run's.
        CaptureError: The new capture cannot be used.
        PlacementError: None of the new photographs shows the block.
    """
    check_training(steps=steps, downscale=downscale, image_cache_gb=image_cache_gb)
    set_num_threads(threads)
    place, folder = resolve_device(device), RunFolder(run)
    city = read_city(folder.city)
    name = city.block(block).name
    if not folder.field(name).is_file():
        raise RunError(f"{folder.field(name)}: block {name} is not trained; run 'blocknerf train --block {name}'")
    fresh = _check_compatible(load_capture(capture), read_capture(folder.capture), name)
    check_downscale(fresh, downscale)
    training = {
        "steps": steps,
        "downscale": downscale,
        "image_cache_gb": image_cache_gb,
        "threads": threads,
        "device": device,
    }
    with exclusive(folder.training_lock(name), f"block {name}: update"):
        _update(folder, city, name, fresh, place, training)
    return folder


def _update(
    folder: RunFolder, city: City, name: str, fresh: Capture, device: torch.device, training: Mapping[str, Any]
) -> None:
    """Train the block on the new capture, match it, and put it in the place of the old one; resumes."""
    begun, own = folder.update_run(name), folder.update_capture(name, _capture_digest(fresh))
    if not begun.city.is_file():
        if read_assignment(folder.frames(name)).capture == own.name and skip_if_exists(own):
            return
        _prepare(folder, city, name, fresh)
    elif _capture_digest(read_capture(begun.capture)) != _capture_digest(fresh):
        raise RunError(f"{begun.path}: an update from another capture was begun; finish that, or remove the folder")
    if begun.frames(name).is_file():
        with stage("train"):
            train(begun.path, block=name, **training)
        with stage("match"):
            _match(folder, city, name, device)
    _publish(folder, name, own)
    log(f"{name}: updated; run 'blocknerf render', 'evaluate' and 'report' again to replace what shows the old block")


def _check_compatible(fresh: Capture, known: Capture, block: str) -> Capture:
    """The new capture under names of its own, with exposures only where the run has them.

    Raises:
        RunError: it is in another unit or world frame, or lacks exposures that the city is shown by.
    """
    origins = {capture.geo_origin for capture in (fresh, known)} - {None}
    if len(origins) > 1:
        raise RunError(
            "update: the new photographs have another geo_origin than the run; bring both into one world frame"
        )
    if fresh.is_metric != known.is_metric:
        unit = "metres" if known.is_metric else "a unit of its own"
        raise RunError(f"update: the run is in {unit} and the new photographs are not; bring both into one world frame")
    measured = any(frame.exposure is not None for frame in known.frames)
    dark = next((frame.name for frame in fresh.frames if frame.exposure is None), None)
    if measured and dark is not None:
        raise RunError(f"update: photograph {dark} does not say its exposure as those of the run do; add it")
    frames = tuple(
        replace(
            frame,
            # Another drive may have given its photographs the names of the first.
            name=f"{block}-update/{frame.name}",
            segment=f"{block}-update/{frame.segment}",
            exposure=frame.exposure if measured else None,
        )
        for frame in fresh.frames
    )
    return replace(fresh, frames=frames)


def _capture_digest(capture: Capture) -> str:
    """What tells the photographs of one update from those of another."""
    return hashlib.sha256(repr((str(capture.image_dir.resolve()), capture.frames)).encode()).hexdigest()[:12]


def _prepare(folder: RunFolder, city: City, name: str, fresh: Capture) -> None:
    """Lay out a run of the one block, its city.json last: when that is there, the update is begun."""
    begun = folder.update_run(name)
    check_pixels(fresh)
    (member,) = assign_frames(fresh, [city.block(name)], test_every=city.test_every, allow_orphans=True)
    before = len(read_assignment(folder.frames(name)).frames)
    log(f"{name}: {len(member.frames)} new photographs in place of {before}")
    if len(member.frames) < MIN_IMAGE_RATIO * before:
        log(f"warning: what they do not show of block {name} will be lost")
    shutil.rmtree(begun.path, ignore_errors=True)
    write_capture(fresh, begun.capture)
    write_assignment(member, fresh, begun.frames(name))
    write_atomic(begun.city, folder.city.read_bytes())


def _match(folder: RunFolder, city: City, name: str, device: torch.device) -> None:
    """Write every look of the run with a new code of the block, beside its new field."""
    looks = {look: read_preset(folder.appearance_preset(look)) for look in folder.preset_names()}
    if set(folder.update_run(name).preset_names()) == set(looks):
        return
    meetings = BlockGraph(folder, city, updated=name, device=device)
    seams, mark = meetings.overlaps(around=name), fingerprint(meetings.run_of(name).field(name))
    for look, held in looks.items():
        source = AppearanceReference(frame=held.frame, segment=held.segment)
        known = {each: code for each, code in held.codes.items() if each != name and each in meetings.names}
        links = [seam for seam in seams if seam.other(name) in known]
        found = [each.code for each in meetings.match(source, links, known, held.exposure)]
        if not found:
            log(f"warning: no view is shared with block {name}, so in look {look} it keeps the light it knows")
        code = found[0] if found else meetings.unmatched_codes(source)[name]
        write_preset(
            _with_code(held, meetings.num_matching_images(source), name, code, mark),
            folder.update_run(name).appearance_preset(look),
        )
    log(f"{name}: matched in {len(looks)} look{'' if len(looks) == 1 else 's'} to {len(seams)} neighboring blocks")


def _with_code(held: AppearancePreset, lit: Mapping[str, int], name: str, code: Tensor, mark: str) -> AppearancePreset:
    """A look with a new code for one block; another block is its root where that was this one."""
    root = held.reference_block
    if root == name:
        root = max(held.codes.keys() - {name}, key=lambda each: (lit.get(each, 0), each), default=name)
    return replace(
        held,
        reference_block=root,
        codes={**held.codes, name: code},
        field_fingerprints={**held.field_fingerprints, name: mark},
    )


def _publish(folder: RunFolder, name: str, own: Path) -> None:
    """Put the new block in the place of the old, in an order in which every moment leaves a block that renders.

    What is moved is gone from the update's folder, so that a publication that was stopped goes on.
    """
    begun = folder.update_run(name)
    fresh = read_capture(begun.capture)
    if begun.frames(name).is_file():
        write_capture(fresh, own)
        member = read_assignment(begun.frames(name), fresh)
        write_assignment(replace(member, capture=own.name), fresh, folder.frames(name))
        begun.frames(name).unlink()
    if begun.field(name).is_file():
        # What the old grid calls empty may be full in the new field; without a grid nothing is skipped. The new
        # photographs are where they are said to be, so the offsets of the old ones are of no use either.
        folder.occupancy(name).unlink(missing_ok=True)
        folder.pose_corrections(name).unlink(missing_ok=True)
    for file in _files(begun, name):
        if file.is_file():
            target = folder.path / file.relative_to(begun.path)
            file.replace(target)
    for old in folder.block_folder(name).glob(folder.update_capture(name, "*").name):
        if old != own:
            old.unlink()
    # Renamed first: what is left of a removal that was stopped is no update.
    gone = begun.path.with_name(f".{name}.done")
    shutil.rmtree(gone, ignore_errors=True)
    begun.path.rename(gone)
    shutil.rmtree(gone)
    if not any(begun.path.parent.iterdir()):
        begun.path.parent.rmdir()


def _files(begun: RunFolder, name: str) -> Iterator[Path]:
    """What takes the place of the old files, in order: the field before the grid that skips what is empty in it."""
    yield begun.train_summary(name)
    yield begun.log(name)
    yield begun.field(name)
    yield begun.occupancy(name)
    for look in begun.preset_names():
        yield begun.appearance_preset(look)
