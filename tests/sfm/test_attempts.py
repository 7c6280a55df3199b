"""The best of several attempts; some fail."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blocknerf.errors import CaptureError
from blocknerf.sfm.alignment import Alignment
from blocknerf.sfm.attempts import ATTEMPTS, Candidate, best_model, choose
from blocknerf.sfm.model import Model, read_model, write_model
from blocknerf.sfm.work_folder import WorkFolder
from blocknerf.similarity import IDENTITY
from tests.sfm.scenes import model_of, street, to_model


def model(count: int, error: float = 0.5) -> Model:
    names = tuple(f"{i:06d}.jpg" for i in range(count))
    return replace(model_of(to_model(street(count)), names, np.ones((4, 3))), error=error)


def candidate(count: int, error: float = 0.5, rms: float | None = None) -> Candidate:
    fit = None
    if rms is not None:
        fit = Alignment(transform=IDENTITY, residuals=np.full(count, rms), inliers=np.ones(count, bool))
    return Candidate(attempt="incremental-0", model=model(count, error), alignment=fit)


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        ([candidate(2), candidate(29), candidate(20)], 1),
        ([candidate(29, 0.8), candidate(29, 0.6)], 1),
        ([candidate(29, 0.6, 40.0), candidate(28, 0.8, 5.0)], 1),
        ([candidate(29, 0.8, 5.0), candidate(29, 0.6, 6.0)], 0),
        ([candidate(12), candidate(12)], 0),
    ],
)
def test_more_images_then_smaller_residuals_and_never_a_bent_one(candidates: list[Candidate], best: int) -> None:
    assert choose(candidates) is candidates[best]


def test_no_candidates() -> None:
    assert choose([]) is None


@pytest.mark.parametrize("expected", [model(5), None])
def test_models_are_read_as_written(expected: Model | None, tmp_path: Path) -> None:
    write_model(expected, tmp_path / "a.npz")
    found = read_model(tmp_path / "a.npz")
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert (found.names, found.sizes, found.error) == (expected.names, expected.sizes, expected.error)
    assert (found.lens_parameters == expected.lens_parameters).all()
    assert (found.camera_to_world == expected.camera_to_world).all()
    assert (found.colors == expected.colors).all()


class Mapper:
    """A stub of COLMAP: registers the given numbers of images, one per attempt; None is a crash."""

    def __init__(self, *counts: int | None) -> None:
        self.counts, self.started = list(counts), list[str]()

    def run(self, stage: str, title: str, work: WorkFolder, threads: int, limit: float | None = None) -> list[str]:
        self.started.append(stage)
        assert (limit is not None) == stage.startswith("global")
        count = self.counts.pop(0)
        if count is None:
            raise CaptureError("its process was killed by signal 6")
        write_model(model(count) if count else None, work.model(stage))
        return []


@pytest.mark.parametrize(
    ("counts", "registered", "attempts"),
    [
        ([20], 20, 1),
        ([19], 19, 1),
        ([2, None, 20], 20, 3),
        ([0, 8, 12, None, 10, 3], 12, 6),
        ([None] * 6, 0, 6),
    ],
)
def test_attempts_end_with_a_good_model(
    counts: list[int | None], registered: int, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapper = Mapper(*counts)
    monkeypatch.setattr("blocknerf.sfm.attempts.run_stage", mapper.run)
    best = best_model(20, WorkFolder(tmp_path), 1, lambda _: None)
    assert (0 if best is None else len(best.model.names)) == registered
    assert mapper.started == list(ATTEMPTS[:attempts])
    again = best_model(20, WorkFolder(tmp_path), 1, lambda _: None)  # from files, without another attempt
    assert (again is None) == (best is None)


@pytest.mark.parametrize(
    ("residuals", "attempts", "best"),
    [
        ([40.0, 39.5], 2, 39.5),
        ([40.0, 90.0, 60.0, 39.0], 4, 39.0),
        ([40.0, 90.0, 6.0], 3, 6.0),
        ([40.0, 90.0, 60.0, 20.0, 25.0, 30.0], 6, 20.0),
    ],
)
def test_attempts_end_when_complete_models_agree_on_gps(
    residuals: list[float], attempts: int, best: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bent models differ from one another; if two do not, GPS is wrong."""
    mapper, remaining = Mapper(*[20] * 6), list(residuals)
    monkeypatch.setattr("blocknerf.sfm.attempts.run_stage", mapper.run)
    chosen = best_model(20, WorkFolder(tmp_path), 1, lambda _: candidate(20, rms=remaining.pop(0)).alignment)
    assert len(mapper.started) == attempts
    assert chosen is not None
    assert chosen.alignment is not None
    assert chosen.alignment.rms == pytest.approx(best)
