"""A town of a few tiny images, and fields small enough to train in a second."""

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.town.views import SampleSpec
from tests.benchmarks.paper import trials
from tests.benchmarks.paper.behind import EmptyTown
from tests.benchmarks.paper.town import sample_capture
from tests.tiny import shrink_draft, shrink_fits, shrink_overlaps

COMMIT = 40 * "c"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the draft preset, overlaps and code fits small enough for a test."""
    shrink_draft(monkeypatch.setattr)
    shrink_overlaps(monkeypatch.setattr)
    shrink_fits(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def known_commit(monkeypatch: pytest.MonkeyPatch) -> str:
    """Use a fixed commit, so that tests run without a git checkout."""
    monkeypatch.setattr(trials, "commit", lambda: COMMIT)
    return COMMIT


@pytest.fixture(scope="session")
def town_spec() -> SampleSpec:
    """Two drives with 16 positions each."""
    return SampleSpec(
        width=24, height=14, drives=2, positions=16, samples_per_pixel=1, traffic="dense", exposure_jitter=1.0
    )


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, town_spec: SampleSpec) -> Capture:
    """The 96 images of the town, with exact poses."""
    return sample_capture(tmp_path_factory.mktemp("town") / "town", town_spec)


@pytest.fixture(scope="session")
def empty_town(town_spec: SampleSpec) -> EmptyTown:
    """The same town without its cars."""
    return EmptyTown(town_spec)
