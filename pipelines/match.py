"""Matching of appearance codes across the trained blocks of a run, saved as an appearance preset."""

import re
from collections.abc import Sequence
from pathlib import Path

from blocknerf.capture.capture import Capture
from blocknerf.city.appearance_presets import DEFAULT_PRESET, AppearancePreset, read_preset, stale_blocks, write_preset
from blocknerf.city.manifest import check_file_name, read_city
from blocknerf.city.matching import STEPS
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.kernels.devices import Device, resolve_device
from blocknerf.kernels.threads import set_num_threads
from blocknerf.locks import clear_abandoned, exclusive
from blocknerf.options import check_whole
from pipelines.block_graph import AppearanceReference, BlockGraph, OverlapChange
from pipelines.console import log, print_table, progress, skip_if_exists, table

MAX_SEGMENT_PRESETS = 8
"""Up to this many segments, `run` matches a preset to each; a capture of more is not one of a few drives."""


def match(
    run: Path,
    *,
    appearance: str = DEFAULT_PRESET,
    reference: str | None = None,
    block: str | None = None,
    steps: int = STEPS,
    threads: int | None = None,
    device: Device = "auto",
) -> AppearancePreset:
    """Match appearance across all trained blocks and save the result as a preset.

    An existing preset is matched again only if a block was trained since.

    Args:
        run: Run folder with trained blocks.
        appearance: Name of the appearance preset.
        reference: Image or segment to match the appearance of. Default: the segment that trains the most blocks.
        block: Block to start from. Default: the block nearest to the image, or the one in the middle of the city.
        steps: Optimization steps per block.
        threads: Number of CPU threads. Default: all cores.
        device: Device for the optimization: auto (a GPU if there is one), cpu, cuda or cuda:1.

    Returns:
        The appearance preset.

    Raises:
        BackendError: The device does not exist.
        OptionError: A number is out of range.
        LockedError: Another process is matching the preset.
        RunError: No block is trained, the image, segment or block does not exist, or the preset has another reference.
    """
    torch_device = resolve_device(device)
    set_num_threads(threads)
    check_file_name(appearance, "--appearance")
    check_whole(steps=steps)
    folder = RunFolder(run)
    graph = BlockGraph(folder, read_city(folder.city), device=torch_device)
    path = folder.appearance_preset(appearance)
    existing = _existing_preset(path, graph, reference, block)
    if existing is not None and not any(stale_blocks(existing, folder, graph.city.digest)):
        skip_if_exists(path)
        clear_abandoned(folder.appearance_lock(appearance))
        return existing
    if existing is None:
        source = graph.reference(reference)
    else:
        source, block = AppearanceReference(frame=existing.frame, segment=existing.segment), existing.reference_block
    with exclusive(folder.appearance_lock(appearance), f"appearance preset {appearance}: matching"):
        preset = _match(graph, source, block, steps)
        write_preset(preset, path)
    log(f"{path}: matched to {source.frame or source.segment}, from block {preset.reference_block}")
    return preset


def segment_presets(capture: Capture) -> dict[str, str]:
    """Return the names of presets for the segments of a capture, and the segments: the times of day of its drives.

    Empty for a single segment, and for more than `MAX_SEGMENT_PRESETS`.
    """
    segments = list(capture.segments)
    if not 1 < len(segments) <= MAX_SEGMENT_PRESETS:
        return {}
    names: dict[str, str] = {}
    for number, segment in enumerate(segments):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", segment).strip("_.-")[:60]
        names[f"segment{number}" if not name or name == DEFAULT_PRESET or name in names else name] = segment
    return names


def _match(graph: BlockGraph, reference: AppearanceReference, block: str | None, steps: int) -> AppearancePreset:
    """Return the preset of a reference, matched outward from a block; print the change in each overlap."""
    overlaps = graph.overlaps()
    starts = graph.reference_blocks(reference, overlaps, block)
    exposure, before = graph.exposure(reference, starts[0]), graph.unmatched_codes(reference)
    codes = {name: before[name] for name in starts}
    matched = graph.match(reference, overlaps, codes, exposure, steps)
    codes |= {result.name: result.code for result in progress(matched, "match", len(graph.names) - len(starts))}
    _print_changes(graph.overlap_changes(overlaps, before, codes, exposure))
    for name in starts[1:]:
        log(f"warning: block {name} and its neighbors share no view with the others; they keep their own appearance")
    return graph.preset(reference, starts[0], exposure, codes)


def _existing_preset(
    path: Path, graph: BlockGraph, reference: str | None, block: str | None
) -> AppearancePreset | None:
    """Return the existing preset, if any.

    Raises:
        RunError: It is broken, has another reference or block than requested, or the reference does not exist.
    """
    if not path.is_file():
        return None
    preset, hint = read_preset(path), "choose another --appearance, or remove the file"
    name = preset.frame or preset.segment
    if reference is not None and reference != name:
        graph.reference(reference)  # One that does not exist gets its own message.
        raise RunError(f"{path}: is matched to {name}, not to {reference}; {hint}")
    if block is not None and block != preset.reference_block:
        raise RunError(f"{path}: starts from block {preset.reference_block}, not {block}; {hint}")
    if graph.reference(name) != AppearanceReference(frame=preset.frame, segment=preset.segment):
        raise RunError(f"{path}: segment: the capture no longer has {preset.segment!r}; {hint}")
    return preset


def _print_changes(changes: Sequence[OverlapChange]) -> None:
    rows = [
        (" - ".join(change.blocks), f"{change.visibility:.2f}", f"{change.before:.4f}", f"{change.after:.4f}")
        for change in changes
    ]
    if rows:
        print_table(table(("overlap", "visibility", "difference before", "matched"), rows))
