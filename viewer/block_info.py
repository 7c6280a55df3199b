"""What is known of each trained block: photographs, score, date and size of its file."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from blocknerf.city.extras import TrainingRecord, read_training_record
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import RunError
from viewer.markup import table
from viewer.run_watcher import FileVersion, file_version

UNKNOWN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """One block's; None is what its files do not tell."""

    frames: int | None
    """Photographs that train it."""
    psnr: float | None
    """In training, over its last tenth, in decibels."""
    trained: datetime | None
    """When its field was written, by this machine's clock."""
    size: int | None
    """Bytes of its field."""
    fault: str | None
    """What is wrong with its training record."""

    @classmethod
    def of(cls, run: RunFolder, name: str) -> "BlockInfo":
        """Read a block's, or take them from memory while its files stay the same."""
        return _read(run, name, file_version(run.train_summary(name)), file_version(run.field(name)))


def block_info_table(run: RunFolder, names: Iterable[str]) -> str:
    """What is known of these blocks, as HTML."""
    rows = []
    for name in names:
        facts = BlockInfo.of(run, name)
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
def _read(run: RunFolder, name: str, record: FileVersion | None, field: FileVersion | None) -> BlockInfo:
    found, fault = TrainingRecord(), None
    if field is not None:
        try:
            found = read_training_record(run.train_summary(name))
        except RunError as error:
            fault = str(error)
    return BlockInfo(
        frames=found.frames,
        psnr=found.psnr,
        trained=None if field is None else datetime.fromtimestamp(field[0] / 1e9),
        size=None if field is None else field[1],
        fault=fault,
    )
