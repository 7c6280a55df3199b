"""One light for the whole city: codes of all blocks, found from one block's outward and stored as a look."""

from collections.abc import Sequence
from pathlib import Path

from blocknerf.city.looks import DEFAULT_LOOK, Look, outdated, read_look, write_look
from blocknerf.city.manifest import check_name, read_city
from blocknerf.city.matching import STEPS
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from blocknerf.kernels.devices import Device, resolve
from blocknerf.kernels.threads import use_threads
from blocknerf.locks import exclusive
from blocknerf.options import check_whole
from pipelines.job import is_done, say, show, table, tracked
from pipelines.meetings import Meetings, SeamChange, Source


def match(
    run: Path,
    *,
    look: str = DEFAULT_LOOK,
    from_: str | None = None,
    block: str | None = None,
    steps: int = STEPS,
    threads: int | None = None,
    device: Device = "auto",
) -> Look:
    """Find codes with which all trained blocks show one light, store them as a look, and give it.

    A look that is there already is matched again only where a block was trained since.

    Args:
        run: The run folder, with trained blocks.
        look: Name of the look.
        from_: The photograph or the segment whose light it is; by default the segment that trains the most blocks.
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
    place = resolve(device)
    use_threads(threads)
    check_name(look, "--look")
    check_whole(steps=steps)
    folder = RunFolder(run)
    meetings = Meetings(folder, read_city(folder.city), device=place)
    path = folder.look(look)
    held = _held(path, meetings, from_, block)
    if held is not None and not any(outdated(held, folder, meetings.city.digest)):
        is_done(path)
        return held
    source = meetings.source(from_) if held is None else Source(frame=held.frame, segment=held.segment)
    with exclusive(folder.look_lock(look), f"look {look}: matching"):
        made = _make(meetings, source, block if held is None else held.root, steps)
        write_look(made, path)
    say(f"{path}: the light of {source.frame or source.segment}, from block {made.root}")
    return made


def _make(meetings: Meetings, source: Source, root: str | None, steps: int) -> Look:
    """The look of a light, from a root outward; tells how far each seam closed."""
    seams = meetings.seams()
    roots = meetings.roots(source, seams, root)
    exposure, before = meetings.exposure(source, roots[0]), meetings.own_codes(source)
    codes = {name: before[name] for name in roots}
    found = meetings.match(source, seams, codes, exposure, steps)
    codes |= {each.name: each.code for each in tracked(found, "match", len(meetings.names) - len(roots))}
    _tell(meetings.changes(seams, before, codes, exposure))
    for name in roots[1:]:
        say(f"warning: no view is shared with block {name} and those around it, so they keep the light it knows")
    return meetings.look(source, roots[0], exposure, codes)


def _held(path: Path, meetings: Meetings, from_: str | None, block: str | None) -> Look | None:
    """The look that is there, if any.

    Raises:
        RunError: it is broken, or of another light than is asked for.
    """
    if not path.is_file():
        return None
    held, another = read_look(path), "choose another --look, or remove the file"
    light = held.frame or held.segment
    if from_ is not None and from_ != light:
        raise RunError(f"{path}: is of the light of {light}, not of {from_}; {another}")
    if block is not None and block != held.root:
        raise RunError(f"{path}: begins at block {held.root}, not {block}; {another}")
    if meetings.source(light) != Source(frame=held.frame, segment=held.segment):
        raise RunError(f"{path}: segment: the capture has no such {held.segment!r} any more; {another}")
    return held


def _tell(changes: Sequence[SeamChange]) -> None:
    rows = [
        (" - ".join(each.blocks), f"{each.visibility:.2f}", f"{each.before:.4f}", f"{each.after:.4f}")
        for each in changes
    ]
    if rows:
        show(table(("seam", "visibility", "difference before", "matched"), rows))
