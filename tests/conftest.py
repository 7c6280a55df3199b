"""Shape and type checks on for the product, few threads, and the real captures where they lie."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# An int passes for a float, as for a type checker.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["blocknerf", "pipelines", "viewer"], CHECKER)

REPOSITORY = Path(__file__).parents[1]
REAL_CAPTURES = REPOSITORY.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew; review the difference")


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
