"""Attempts to compute a model, with several mappers and seeds, and the choice of the best one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from blocknerf.errors import CaptureError
from blocknerf.sfm.alignment import Alignment
from blocknerf.sfm.model import Model, read_model, write_model
from blocknerf.sfm.stages import LOGGER, run_stage
from blocknerf.sfm.work_folder import WorkFolder

ATTEMPTS = ("incremental-0", "global-0", "incremental-1", "incremental-2", "global-1", "incremental-3")
"""In this order, until one is good; the number is the seed. Either mapper fails at random on images that the other
registers: of 29 photos of a street, incremental mapping registers 2 or 29, depending on the seed alone."""
GOOD_SHARE = 0.95
"""Share of registered images at which no further attempt is made."""
BENT = 15.0
"""GPS residual in meters above which a model is bent; receivers in streets are wrong by 5 to 10 m."""
SAME_RESIDUAL = 0.05
"""Largest relative difference of GPS residuals that count as the same: six models of one flight were all 39.6 m off."""
GLOBAL_SECONDS, GLOBAL_SECONDS_PER_IMAGE = 60.0, 1.0
"""Limit in CPU seconds of a global mapping, which sometimes does not converge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model and how it fits GPS, where there is any."""

    attempt: str
    model: Model
    alignment: Alignment | None

    @property
    def is_bent(self) -> bool:
        """Whether the model contradicts GPS."""
        return self.alignment is not None and self.alignment.rms > BENT

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Greater is better: not bent, more images, smaller residuals."""
        residual = self.model.error if self.alignment is None else self.alignment.rms
        return not self.is_bent, len(self.model.names), -residual


def best_model(
    num_images: int, work: WorkFolder, threads: int, align: Callable[[Model], Alignment | None]
) -> Candidate | None:
    """Return the best model of all attempts; None if none has a model. Finished attempts are read from their files.

    Args:
        num_images: Number of images of the job.
        work: Folder of the job.
        threads: Number of threads.
        align: Returns the alignment of a model with GPS, None without.
    """
    candidates: list[Candidate] = []
    for attempt in ATTEMPTS:
        model = _attempt(attempt, num_images, work, threads)
        if model is None:
            LOGGER.info(f"{_title(attempt)}: no model")
            continue
        candidate = Candidate(attempt=attempt, model=model, alignment=align(model))
        candidates.append(candidate)
        LOGGER.info(
            f"{_title(attempt)}: {len(model.names)} of {num_images} images, {model.error:.2f} px{_fit(candidate)}"
        )
        complete = [item for item in candidates if len(item.model.names) >= GOOD_SHARE * num_images]
        if any(not item.is_bent for item in complete) or _agree(complete):
            break
    return choose(candidates)


def _agree(candidates: Sequence[Candidate]) -> bool:
    """Return whether two models differ alike from GPS: then it is GPS that is wrong, and not the models."""
    residuals = sorted(item.alignment.rms for item in candidates if item.alignment is not None)
    return any(second - first < SAME_RESIDUAL * second for first, second in pairwise(residuals))


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the best candidate, the first of equals; None if there are none."""
    return max(candidates, key=lambda candidate: candidate.rank, default=None)


def _attempt(attempt: str, num_images: int, work: WorkFolder, threads: int) -> Model | None:
    path = work.model(attempt)
    if not path.exists():
        limit = GLOBAL_SECONDS + GLOBAL_SECONDS_PER_IMAGE * num_images if attempt.startswith("global") else None
        try:
            run_stage(attempt, _title(attempt), work, threads, limit)
        except CaptureError as error:
            LOGGER.info(f"{error}; trying another way")
            write_model(None, path)
    return read_model(path)


def _title(attempt: str) -> str:
    """Return an attempt in words.

    >>> _title("global-1")
    'global mapping, attempt 2'
    """
    mapper, _, number = attempt.partition("-")
    return f"{mapper} mapping, attempt {int(number) + 1}"


def _fit(candidate: Candidate) -> str:
    return "" if candidate.alignment is None else f", {candidate.alignment.rms:.1f} m from GPS"
