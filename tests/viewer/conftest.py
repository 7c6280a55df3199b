"""The sample town, trained for a moment: enough for a page to show it. And a gate before what stands for a page."""

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
from tests.tiny import shrink_draft, shrink_seams
from tests.viewer.browsing import CHROMIUM, Page, opened_browser
from tests.viewer.visitors import TOKEN, Inner
from viewer import control_panel
from viewer.auth_proxy import AuthProxy
from viewer.control_panel import RESOLUTIONS
from viewer.view import serve

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
            match(run.path, appearance=look, reference=segment, steps=3, threads=1)
    return run


@pytest.fixture(scope="module")
def gate(town_run: RunFolder) -> Iterator[AuthProxy]:
    """The viewer of the town; its finished pictures are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_panel, "DEFAULT_RESOLUTION", min(RESOLUTIONS))
        with serve(town_run) as served:
            yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; a test that wants it is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra 'test' has")
    if CHROMIUM is None:
        pytest.skip("needs a browser: Debian's package 'chromium'")
    with opened_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, gate: AuthProxy) -> Iterator[Callable[..., Page]]:
    """Opens pages of the town."""
    pages: list[Page] = []

    def opened(url: str | None = None, **size: int) -> Page:
        pages.append(Page(browser, url or gate.url, **size))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


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
def locked(inner: Inner) -> Iterator[AuthProxy]:
    """A gate with a token."""
    with AuthProxy("127.0.0.1", 0, inner.server_address[1], TOKEN) as gate:
        yield gate


@pytest.fixture
def free(inner: Inner) -> Iterator[AuthProxy]:
    """A gate without one."""
    with AuthProxy("127.0.0.1", 0, inner.server_address[1], None) as gate:
        yield gate
