"""Fixtures: a briefly trained run of the sample town, pages that show it, and a proxy in front of a stub server."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blocknerf.city.run_folder import RunFolder
from pipelines.ingest import ingest
from pipelines.match import match
from pipelines.partition import partition
from pipelines.train import train
from tests.tiny import shrink_draft, shrink_overlaps
from tests.viewer.browser import Page
from tests.viewer.raw_http import TOKEN, StubServer
from viewer import control_panel
from viewer.auth_proxy import AuthProxy
from viewer.control_panel import RESOLUTIONS
from viewer.view import serve

PRESETS = {"noon": "drive0_noon", "dusk": "drive1_dusk"}


@pytest.fixture(scope="session")
def town_run(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> RunFolder:
    """A run of tiny fields with two appearance presets. Tests share it; videos they render have their own names."""
    run = RunFolder(tmp_path_factory.mktemp("viewer") / "run")
    with pytest.MonkeyPatch.context() as patch:
        shrink_draft(patch.setattr)
        shrink_overlaps(patch.setattr)
        ingest(repository / "data_samples" / "mini_city", run.path)
        partition(run.path)
        train(run.path, steps=60, downscale=2, threads=1)
        for preset, segment in PRESETS.items():
            match(run.path, appearance=preset, reference=segment, steps=3, threads=1)
    return run


@pytest.fixture(scope="module")
def proxy(town_run: RunFolder) -> Iterator[AuthProxy]:
    """The viewer of the town, with a low default resolution."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_panel, "DEFAULT_RESOLUTION", min(RESOLUTIONS))
        with serve(town_run) as served:
            yield served


@pytest.fixture
def open_page(browser: Any, proxy: AuthProxy) -> Iterator[Callable[..., Page]]:
    """A function that opens pages of the town."""
    pages: list[Page] = []

    def open_one(url: str | None = None, **size: int) -> Page:
        pages.append(Page(browser, url or proxy.url, **size))
        return pages[-1]

    try:
        yield open_one
    finally:
        for page in pages:
            page.close()


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def token_proxy(stub: StubServer) -> Iterator[AuthProxy]:
    """A proxy with a token."""
    with AuthProxy("127.0.0.1", 0, stub.server_address[1], TOKEN) as proxy:
        yield proxy


@pytest.fixture
def open_proxy(stub: StubServer) -> Iterator[AuthProxy]:
    """A proxy without a token."""
    with AuthProxy("127.0.0.1", 0, stub.server_address[1], None) as proxy:
        yield proxy
