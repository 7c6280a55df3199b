"""Paths of the files from which a computation of poses resumes."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FILES = ("database.db*", "pairs.txt", "colmap.log", "*.done", "*.npz")


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Paths of the files of a computation; every file name is defined only here."""

    path: Path

    @property
    def job(self) -> Path:
        """What the files belong to."""
        return self.path / "job.json"

    @property
    def database(self) -> Path:
        """COLMAP's database of features and matches."""
        return self.path / "database.db"

    @property
    def images(self) -> Path:
        """Folder of links to the images, under names that COLMAP's lists of pairs can hold."""
        return self.path / "images"

    @property
    def pairs(self) -> Path:
        return self.path / "pairs.txt"

    @property
    def log(self) -> Path:
        """What COLMAP printed."""
        return self.path / "colmap.log"

    def finished(self, stage: str) -> Path:
        """Empty file that marks a finished stage."""
        return self.path / f"{stage}.done"

    def model(self, attempt: str) -> Path:
        """Result of an attempt."""
        return self.path / f"{attempt}.npz"

    def clear(self) -> None:
        """Remove the files of the computation, and nothing else."""
        self.clear_computation()
        self.job.unlink(missing_ok=True)

    def clear_computation(self) -> None:
        """Remove the files of the computation, except the job that says what the result belongs to."""
        for pattern in _FILES:
            for path in self.path.glob(pattern):
                path.unlink()
        for link in self.images.glob("*"):
            if link.is_symlink():
                link.unlink()
        with suppress(OSError):  # absent, or not empty
            self.images.rmdir()
        for folder in self.path.glob("attempt-*"):
            shutil.rmtree(folder)
