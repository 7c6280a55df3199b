"""How far blocks disagree on the poses of the same photographs, as a table for people."""

from collections import Counter
from collections.abc import Sequence

from blocknerf.capture.pose_averaging import PoseAverage, PoseResidual

TABLE_HEADER = ("", "shared stretches", "translation", "largest", "rotation_deg", "largest", "block as a whole", "")
TABLE_CAPTION = (
    "By how much blocks disagree on where the same photographs were taken from: each block's offset of a stretch "
    "against the common trajectory, the block's own place in it aside. The last columns are that place, which is "
    "allowed for in rendering."
)


def residual_rows(found: PoseAverage, *, metric: bool) -> list[tuple[str, ...]]:
    """Rows under `TABLE_HEADER`, one a block and one for all; lengths in centimetres where the capture is metric.

    Means are over photographs. Only stretches count that several blocks learned: of others there is one word alone.
    """
    blocks = Counter(each.pose_segment for each in found.residuals)
    shared = [each for each in found.residuals if blocks[each.pose_segment] > 1]
    rows = []
    for name, place in found.block_alignments.items():
        whole = (_length(place.translation_norm, metric), f"{place.rotation_deg:.3f}°")
        rows.append((name, *_figures([each for each in shared if each.block == name], metric), *whole))
    return [*rows, ("all", *_figures(shared, metric), "", "")]


def _figures(group: Sequence[PoseResidual], metric: bool) -> tuple[str, str, str, str, str]:
    if not group:
        return "0", "-", "-", "-", "-"
    frames = sum(each.frames for each in group)
    shift, turn = (
        sum(getattr(each, key) * each.frames for each in group) / frames for key in ("translation", "rotation_deg")
    )
    most = max(each.translation for each in group)
    angle = max(each.rotation_deg for each in group)
    count = len({each.pose_segment for each in group})
    return str(count), _length(shift, metric), _length(most, metric), f"{turn:.3f}°", f"{angle:.3f}°"


def _length(length: float, metric: bool) -> str:
    return f"{100.0 * length:.1f} cm" if metric else f"{length:.3g}"
