"""Shape and type checks on for the product, few threads, tests shared by workers, and where real captures lie."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

from tests import checks

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("blocknerf", "pipelines", "viewer")


def checked_modules() -> list[str]:
    """What the shape checks wrap: everything, or for an older jaxtyping all modules without compiled functions.

    Before 0.3.11, the first that needs Python 3.11, it wraps even what is marked `no_type_check`, and neither Numba
    nor Triton can compile what is wrapped.
    """
    if tuple(map(int, version("jaxtyping").split(".")[:3])) >= (0, 3, 11):
        return list(PACKAGES)
    files = [file for package in PACKAGES for file in (REPOSITORY / package).rglob("*.py")]
    compilers = ("from numba import", "import triton")
    texts = {file: file.read_text() for file in files if file.stem != "__init__"}
    plain = [file for file, text in texts.items() if not any(compiler in text for compiler in compilers)]
    return [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in plain]


install_import_hook(checked_modules(), "tests.checks.first_calls")

# Kernels for a GPU are held to their references here, run as Python; it must be set before any of them loads.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Decides how threads wait, so it comes before torch: spinning ones make small steps ten times slower.
import blocknerf.kernels.threads  # noqa: E402, F401

REAL_CAPTURES = REPOSITORY.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; review the difference")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    checks.begin()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compile the kernels before several workers need them, each for itself."""
    from blocknerf.kernels.precompile import is_precompiled, precompile

    if not is_precompiled():
        precompile()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which worker takes which tests, where several share them (`pytest -n 3`)."""
    from tests.sharing import Sharing

    config.option.loadscopereorder = False
    return Sharing(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the tests, put them in the order in which they are begun."""
    if hasattr(config, "workerinput"):
        from tests.sharing import turn_of

        items.sort(key=lambda item: turn_of(item.nodeid))


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether reviewed files are to be written instead of compared."""
    return request.config.getoption("--update-golden")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_captures() -> Path:
    """The folder of real captures that lies beside the repository; skips where there is none."""
    if not REAL_CAPTURES.is_dir():
        pytest.skip("needs the real captures in ../shared/data, which are not distributed with the project")
    return REAL_CAPTURES
