"""How far blocks disagree on the poses of the same photographs, as a table for people."""

from collections import Counter
from collections.abc import Sequence

from blocknerf.capture.reconciliation import Disagreement, Reconciliation

HEAD = ("", "shared stretches", "shift", "largest", "turn", "largest", "block as a whole", "")
CAPTION = (
    "By how much blocks disagree on where the same photographs were taken from: each block's offset of a stretch "
    "against the common trajectory, the block's own place in it aside. The last columns are that place, which is "
    "allowed for in rendering."
)


def disagreement_rows(found: Reconciliation, *, metric: bool) -> list[tuple[str, ...]]:
    """Rows under `HEAD`, one a block and one for all; lengths in centimetres where the capture is metric.

    Means are over photographs. Only stretches count that several blocks learned: of others there is one word alone.
    """
    blocks = Counter(each.stretch for each in found.disagreements)
    shared = [each for each in found.disagreements if blocks[each.stretch] > 1]
    rows = []
    for name, place in found.places.items():
        whole = (_length(place.shift, metric), f"{place.turn_degrees:.3f}°")
        rows.append((name, *_figures([each for each in shared if each.block == name], metric), *whole))
    return [*rows, ("all", *_figures(shared, metric), "", "")]


def _figures(group: Sequence[Disagreement], metric: bool) -> tuple[str, str, str, str, str]:
    if not group:
        return "0", "-", "-", "-", "-"
    frames = sum(each.frames for each in group)
    shift, turn = (sum(getattr(each, key) * each.frames for each in group) / frames for key in ("shift", "turn"))
    most = max(each.shift for each in group)
    angle = max(each.turn for each in group)
    count = len({each.stretch for each in group})
    return str(count), _length(shift, metric), _length(most, metric), f"{turn:.3f}°", f"{angle:.3f}°"


def _length(length: float, metric: bool) -> str:
    return f"{100.0 * length:.1f} cm" if metric else f"{length:.3g}"
