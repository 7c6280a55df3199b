"""The sample town, trained for a moment: enough for a page to show it. And a gate before what stands for a page."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocknerf.city.manifest import RunFolder
from pipelines.ingest import ingest
from pipelines.match import match
from pipelines.partition import partition
from pipelines.train import train
from tests.tiny import shrink_draft, shrink_seams
from tests.viewer.visitors import TOKEN, Inner
from viewer.gate import Gate

LIGHTS = {"noon": "drive0_noon", "dusk": "drive1_dusk"}


@pytest.fixture(scope="session")
def town_run(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> RunFolder:
    """A run of tiny fields with two looks. Tests share it; films that they make have names of their own."""
    run = RunFolder(tmp_path_factory.mktemp("viewer") / "run")
    with pytest.MonkeyPatch.context() as patch:
        shrink_draft(patch.setattr)
        shrink_seams(patch.setattr)
        ingest(repository / "data_samples" / "mini_city", run.path)
        partition(run.path)
        train(run.path, steps=60, downscale=2, threads=1)
        for look, segment in LIGHTS.items():
            match(run.path, look=look, from_=segment, steps=3, threads=1)
    return run


@pytest.fixture
def inner() -> Iterator[Inner]:
    with Inner() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def locked(inner: Inner) -> Iterator[Gate]:
    """A gate with a token."""
    with Gate("127.0.0.1", 0, inner.server_address[1], TOKEN) as gate:
        yield gate


@pytest.fixture
def free(inner: Inner) -> Iterator[Gate]:
    """A gate without one."""
    with Gate("127.0.0.1", 0, inner.server_address[1], None) as gate:
        yield gate
