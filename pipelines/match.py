"""One light for the whole city: codes of all blocks, found from one block's outward and stored as a look."""

from collections.abc import Sequence
from pathlib import Path

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
    """Find codes with which all trained blocks show one light, store them as a look, and give it.

    A look that is there already is matched again only where a block was trained since.

    Args:
        run: The run folder, with trained blocks.
        appearance: Name of the look.
        reference: The photograph or the segment whose light it is; by default the segment that trains the most blocks.
        block: The block to begin at; by default the one nearest the photograph, or in the middle of the city.
        steps: Of the search for the code of one block.
        threads: Processor threads; by default every core.
        device: Where to work: auto, cpu, cuda, or cuda:1; auto takes a GPU where there is one.

    Raises:
        BackendError: There is no such device.
        OptionError: A number is out of range.
        LockedError: Another process matches the look.
        RunError: No block is trained, there is no such photograph, segment or block, or the look is of another light.
    """
    place = resolve_device(device)
    set_num_threads(threads)
    check_file_name(appearance, "--appearance")
    check_whole(steps=steps)
    folder = RunFolder(run)
    meetings = BlockGraph(folder, read_city(folder.city), device=place)
    path = folder.appearance_preset(appearance)
    held = _existing_preset(path, meetings, reference, block)
    if held is not None and not any(stale_blocks(held, folder, meetings.city.digest)):
        skip_if_exists(path)
        clear_abandoned(folder.appearance_lock(appearance))
        return held
    source = (
        meetings.reference(reference) if held is None else AppearanceReference(frame=held.frame, segment=held.segment)
    )
    with exclusive(folder.appearance_lock(appearance), f"look {appearance}: matching"):
        made = _make(meetings, source, block if held is None else held.reference_block, steps)
        write_preset(made, path)
    log(f"{path}: the light of {source.frame or source.segment}, from block {made.reference_block}")
    return made


def _make(
    meetings: BlockGraph, reference: AppearanceReference, reference_block: str | None, steps: int
) -> AppearancePreset:
    """The look of a light, from a root outward; tells how far each seam closed."""
    seams = meetings.overlaps()
    roots = meetings.reference_blocks(reference, seams, reference_block)
    exposure, before = meetings.exposure(reference, roots[0]), meetings.unmatched_codes(reference)
    codes = {name: before[name] for name in roots}
    found = meetings.match(reference, seams, codes, exposure, steps)
    codes |= {each.name: each.code for each in progress(found, "match", len(meetings.names) - len(roots))}
    _print_changes(meetings.overlap_changes(seams, before, codes, exposure))
    for name in roots[1:]:
        log(f"warning: no view is shared with block {name} and those around it, so they keep the light it knows")
    return meetings.preset(reference, roots[0], exposure, codes)


def _existing_preset(
    path: Path, meetings: BlockGraph, reference: str | None, block: str | None
) -> AppearancePreset | None:
    """The look that is there, if any.

    Raises:
        RunError: it is broken, or of another light than is asked for.
    """
    if not path.is_file():
        return None
    held, another = read_preset(path), "choose another --appearance, or remove the file"
    light = held.frame or held.segment
    if reference is not None and reference != light:
        raise RunError(f"{path}: is of the light of {light}, not of {reference}; {another}")
    if block is not None and block != held.reference_block:
        raise RunError(f"{path}: begins at block {held.reference_block}, not {block}; {another}")
    if meetings.reference(light) != AppearanceReference(frame=held.frame, segment=held.segment):
        raise RunError(f"{path}: segment: the capture has no such {held.segment!r} any more; {another}")
    return held


def _print_changes(changes: Sequence[OverlapChange]) -> None:
    rows = [
        (" - ".join(each.blocks), f"{each.visibility:.2f}", f"{each.before:.4f}", f"{each.after:.4f}")
        for each in changes
    ]
    if rows:
        print_table(table(("seam", "visibility", "difference before", "matched"), rows))
