"""A town of a few tiny photographs, and fields small enough to be trained in a second."""

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.town.views import SampleSpec
from tests.benchmarks.paper import trials
from tests.benchmarks.paper.behind import EmptyTown
from tests.benchmarks.paper.town import photograph
from tests.tiny import shrink_draft, shrink_fits, shrink_seams

COMMIT = 40 * "c"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the draft preset, seams and the fits of codes small enough for a test."""
    shrink_draft(monkeypatch.setattr)
    shrink_seams(monkeypatch.setattr)
    shrink_fits(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def known_commit(monkeypatch: pytest.MonkeyPatch) -> str:
    """Trials are of this commit: tests run without a git checkout as well."""
    monkeypatch.setattr(trials, "commit", lambda: COMMIT)
    return COMMIT


@pytest.fixture(scope="session")
def town_spec() -> SampleSpec:
    """Two drives, 16 stops each."""
    return SampleSpec(
        width=24, height=14, drives=2, positions=16, samples_per_pixel=1, traffic="dense", exposure_jitter=1.0
    )


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, town_spec: SampleSpec) -> Capture:
    """Its 96 photographs, poses exact."""
    return photograph(tmp_path_factory.mktemp("town") / "town", town_spec)


@pytest.fixture(scope="session")
def empty_town(town_spec: SampleSpec) -> EmptyTown:
    """The same town without its cars."""
    return EmptyTown(town_spec)
