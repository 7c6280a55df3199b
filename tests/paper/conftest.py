"""A town of a few tiny photographs, and fields small enough to be trained in a second."""

from functools import partial

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.capture.synthetic.shots import SampleSpec
from blocknerf.fields import spec
from blocknerf.fields.probing import extract_occupancy
from blocknerf.training import config
from pipelines import train as train_job
from tests.benchmarks.paper.behind import EmptyTown
from tests.benchmarks.paper.town import photograph

TINY = {
    "levels": 3, "log2_table": 10, "base_resolution": 4, "finest_resolution": 32, "hidden": 16, "code_size": 4,
    "proposal_levels": 2, "proposal_log2_table": 8, "proposal_finest_resolution": 32, "visibility_log2_table": 7,
    "visibility_finest_resolution": 16, "proposal_samples": 12, "samples": 8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the draft preset small enough for a test."""
    monkeypatch.setattr(spec, "_PRESETS", {**spec._PRESETS, "draft": TINY})
    monkeypatch.setattr(config, "RAYS", {**config.RAYS, "draft": 64})
    monkeypatch.setattr(train_job, "extract_occupancy", partial(extract_occupancy, resolution=8))


@pytest.fixture(scope="session")
def town_spec() -> SampleSpec:
    """Two drives, 16 stops each."""
    return SampleSpec(width=24, height=14, drives=2, stops=16, supersample=1, traffic="dense", exposure_wander=1.0)


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, town_spec: SampleSpec) -> Capture:
    """Its 96 photographs, poses exact."""
    return photograph(tmp_path_factory.mktemp("town") / "town", town_spec)


@pytest.fixture(scope="session")
def empty_town(town_spec: SampleSpec) -> EmptyTown:
    """The same town without its cars."""
    return EmptyTown(town_spec)
