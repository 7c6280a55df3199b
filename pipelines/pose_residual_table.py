"""Table of the residuals of pose averaging: how much blocks disagree on the poses of the same images."""

from collections import Counter
from collections.abc import Sequence

from blocknerf.capture.pose_averaging import PoseAverage, PoseResidual

TABLE_HEADER = ("", "shared segments", "translation", "max", "rotation", "max", "block alignment", "")
TABLE_CAPTION = (
    "Residuals of pose averaging: each block's correction of a pose segment compared with the common trajectory, "
    "after alignment of the block as a whole. The last two columns are that alignment, which rendering applies."
)


def residual_rows(average: PoseAverage, *, metric: bool) -> list[tuple[str, ...]]:
    """Return rows under `TABLE_HEADER`, one per block and one for all blocks.

    Lengths are in centimeters if the capture is metric. Means are over images. Only pose segments that several blocks
    refined count: there is nothing to compare the others with.
    """
    counts = Counter(residual.pose_segment for residual in average.residuals)
    shared = [residual for residual in average.residuals if counts[residual.pose_segment] > 1]
    rows = []
    for name, alignment in average.block_alignments.items():
        whole = (_length(alignment.translation_norm, metric), f"{alignment.rotation_deg:.3f}°")
        rows.append((name, *_statistics([residual for residual in shared if residual.block == name], metric), *whole))
    return [*rows, ("all", *_statistics(shared, metric), "", "")]


def _statistics(group: Sequence[PoseResidual], metric: bool) -> tuple[str, str, str, str, str]:
    if not group:
        return "0", "-", "-", "-", "-"
    frames = sum(residual.frames for residual in group)
    translation, rotation = (
        sum(getattr(residual, key) * residual.frames for residual in group) / frames
        for key in ("translation", "rotation_deg")
    )
    max_translation = max(residual.translation for residual in group)
    max_rotation = max(residual.rotation_deg for residual in group)
    count = len({residual.pose_segment for residual in group})
    lengths = _length(translation, metric), _length(max_translation, metric)
    return str(count), *lengths, f"{rotation:.3f}°", f"{max_rotation:.3f}°"


def _length(length: float, metric: bool) -> str:
    return f"{100.0 * length:.1f} cm" if metric else f"{length:.3g}"
