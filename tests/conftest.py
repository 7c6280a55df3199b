"""Pytest setup: shape and type checks, threads, distribution of tests over workers, and shared fixtures."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

from tests import checks

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("blocknerf", "pipelines", "viewer")


def checked_modules() -> list[str]:
    """Return the modules with shape checks: all, or for an older jaxtyping those without compiled functions.

    Before 0.3.11, which needs Python 3.11, jaxtyping wraps even functions marked `no_type_check`, and neither Numba nor
    Triton can compile a wrapped function.
    """
    if tuple(map(int, version("jaxtyping").split(".")[:3])) >= (0, 3, 11):
        return list(PACKAGES)
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    compilers = ("from numba import", "import triton")
    texts = {file: file.read_text() for file in files if file.stem != "__init__"}
    uncompiled = [file for file, text in texts.items() if not any(compiler in text for compiler in compilers)]
    return [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in uncompiled]


install_import_hook(checked_modules(), "tests.checks.first_calls")

# GPU kernels are compared with their references in Triton's interpreter; this must be set before they are imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Sets how idle threads wait, so it precedes torch: spinning threads make small steps ten times slower.
import blocknerf.kernels.threads  # noqa: E402, F401

REAL_CAPTURES = REPOSITORY.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden; review the difference")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    checks.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compile the kernels once, before several workers would each compile them."""
    from blocknerf.kernels.precompile import is_precompiled, precompile

    if not is_precompiled():
        precompile()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler that assigns tests to workers (`pytest -n 3`)."""
    from tests.sharing import Sharing

    config.option.loadscopereorder = False
    return Sharing(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no slow tests if only the others run."""
    from tests.sharing import is_slow

    slow = is_slow(collection_path.relative_to(REPOSITORY).as_posix())
    return True if slow and config.option.markexpr == "not slow" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests, and sort the tests in a worker into the order in which they start."""
    from tests.sharing import is_slow, start_rank

    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: start_rank(item.nodeid))


def pytest_collection_finish() -> None:
    """Exempt the modules from garbage collection: writing a video collects garbage twice, 0.3 s each."""
    gc.freeze()


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write golden files instead of comparing them."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_captures() -> Path:
    """The folder of real captures next to the repository; skips the test if there is none."""
    if not REAL_CAPTURES.is_dir():
        pytest.skip("needs the real captures in ../shared/data, which are not distributed with the project")
    return REAL_CAPTURES


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; tests that use it are skipped if it is not installed. A process can have only one."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright, which the extra 'test' has")
    from tests.viewer.browser import CHROMIUM, open_browser

    if CHROMIUM is None:
        pytest.skip("needs a browser: Debian's package 'chromium'")
    with open_browser() as browser:
        yield browser
