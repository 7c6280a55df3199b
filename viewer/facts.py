"""What is known of each trained block: photographs, score, date and size of its file."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from blocknerf.city.manifest import RunFolder
from blocknerf.errors import RunError
from blocknerf.files import read_json
from viewer.following import Stamp, stamp
from viewer.markup import table

UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFacts:
    """One block's; None is what its files do not tell."""

    frames: int | None
    """Photographs that train it."""
    psnr: float | None
    """In training, over its last tenth, in decibels."""
    trained: datetime | None
    """When its field was written, by this machine's clock."""
    size: int | None
    """Bytes of its field."""

    @classmethod
    def of(cls, run: RunFolder, name: str) -> "BlockFacts":
        """Read a block's, or take them from memory while its files stay the same."""
        return _read(run, name, stamp(run.train_record(name)), stamp(run.field(name)))


def facts_table(run: RunFolder, names: Iterable[str]) -> str:
    """What is known of these blocks, as HTML."""
    rows = []
    for name in names:
        facts = BlockFacts.of(run, name)
        cells = (
            name,
            UNKNOWN if facts.frames is None else f"{facts.frames}",
            UNKNOWN if facts.psnr is None else f"{facts.psnr:.1f}",
            UNKNOWN if facts.trained is None else f"{facts.trained:%Y-%m-%d}",
            UNKNOWN if facts.size is None else f"{facts.size / 2**20:.1f}",
        )
        rows.append(cells)
    return table(("block", "photos", "PSNR", "trained", "MiB"), rows)


@lru_cache(maxsize=4096)
def _read(run: RunFolder, name: str, record: Stamp | None, field: Stamp | None) -> BlockFacts:
    document = _record(run, name) if record is not None and field is not None else {}
    frames = _number(document.get("frames"))
    return BlockFacts(
        frames=None if frames is None else int(frames),
        psnr=_number(document.get("psnr")),
        trained=None if field is None else datetime.fromtimestamp(field[0] / 1e9),
        size=None if field is None else field[1],
    )


def _record(run: RunFolder, name: str) -> dict[str, Any]:
    try:
        return read_json(run.train_record(name), "training record")
    except RunError:  # the city is shown without it
        return {}


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
