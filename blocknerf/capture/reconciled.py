"""The file of reconciled poses (`poses.json` of a run)."""

from pathlib import Path

from blocknerf.capture.entry import Entry
from blocknerf.capture.motion import motion_data, read_motion
from blocknerf.capture.offsets import PoseOffsets, offsets_data, open_entry, read_offset_list
from blocknerf.capture.reconciliation import Disagreement, Reconciliation
from blocknerf.capture.stretches import Stretch
from blocknerf.files import format_json, write_atomic

RECONCILED_FORMAT = "blocknerf.reconciled-poses/1"


def write_reconciliation(found: Reconciliation, path: Path) -> None:
    """Write a run's `poses.json`, whole or not at all. Shifts are in world units, turns in degrees."""
    document = {
        "format": RECONCILED_FORMAT,
        "stretch_length": found.trajectory.length,
        "offsets": offsets_data(found.trajectory.offsets),
        "places": [{"block": name, **motion_data(motion)} for name, motion in found.places.items()],
        "disagreements": [
            {
                "block": each.block,
                "segment": each.stretch.segment,
                "stretch": each.stretch.number,
                "frames": each.frames,
                "shift": each.shift,
                "turn": each.turn,
            }
            for each in found.disagreements
        ],
    }
    write_atomic(path, format_json(document))


def read_reconciliation(path: Path) -> Reconciliation:
    """Read a run's `poses.json`, strictly.

    Raises:
        CaptureError: the file is missing, broken or of another format.
    """
    entry = open_entry(path, RECONCILED_FORMAT, "run 'blocknerf reconcile' again")
    trajectory = PoseOffsets(length=entry.number("stretch_length"), offsets=read_offset_list(entry))
    places = {}
    for item in entry.objects("places"):
        places[item.text("block")] = read_motion(item)
        item.finish()
    disagreements = tuple(_read_disagreement(item) for item in entry.objects("disagreements"))
    entry.finish()
    return Reconciliation(trajectory=trajectory, places=places, disagreements=disagreements)


def _read_disagreement(entry: Entry) -> Disagreement:
    found = Disagreement(
        block=entry.text("block"),
        stretch=Stretch(segment=entry.text("segment"), number=entry.whole("stretch")),
        frames=entry.whole("frames"),
        shift=entry.number("shift"),
        turn=entry.number("turn"),
    )
    entry.finish()
    return found
