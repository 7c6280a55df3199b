"""Facts about each trained block: images, PSNR, date and file size."""

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
    """Facts about one block. A field is None if the block's files do not contain it."""

    frames: int | None
    """Number of training images."""
    psnr: float | None
    """Training PSNR over the last tenth of the steps, in decibels."""
    trained: datetime | None
    """When the field was written, in local time."""
    size: int | None
    """Size of the field file, in bytes."""
    fault: str | None
    """What is wrong with the training record."""

    @classmethod
    def of(cls, run: RunFolder, name: str) -> "BlockInfo":
        """Read the facts about a block; cached while its files do not change."""
        return _read(run, name, file_version(run.train_summary(name)), file_version(run.field(name)))


def block_info_table(run: RunFolder, names: Iterable[str]) -> str:
    """Return an HTML table of the facts about these blocks."""
    rows = []
    for name in names:
        info = BlockInfo.of(run, name)
        cells = (
            name,
            UNKNOWN if info.frames is None else f"{info.frames}",
            UNKNOWN if info.psnr is None else f"{info.psnr:.1f}",
            UNKNOWN if info.trained is None else f"{info.trained:%Y-%m-%d}",
            UNKNOWN if info.size is None else f"{info.size / 2**20:.1f}",
        )
        rows.append(cells)
    return table(("block", "images", "PSNR", "trained", "MiB"), rows)


@lru_cache(maxsize=4096)
def _read(run: RunFolder, name: str, record_version: FileVersion | None, field: FileVersion | None) -> BlockInfo:
    record, fault = TrainingRecord(), None
    if field is not None:
        try:
            record = read_training_record(run.train_summary(name))
        except RunError as error:
            fault = str(error)
    return BlockInfo(
        frames=record.frames,
        psnr=record.psnr,
        trained=None if field is None else datetime.fromtimestamp(field[0] / 1e9),
        size=None if field is None else field[1],
        fault=fault,
    )
