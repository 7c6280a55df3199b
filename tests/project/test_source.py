"""Rules for the source as a whole: style, types, sizes, names, and examples that are true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "misc", "base"}
LONGEST_FILE = 400
PRODUCT = ("blocknerf", "pipelines", "viewer")
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".yml", ".yaml", ""}
ABSOLUTE = re.compile(r"(?<![\w./~>-])/(home|root|work|tmp|Users|usr|opt|var|mnt)/")


@pytest.fixture(scope="session")
def sources(repository: Path) -> list[Path]:
    folders = (*PRODUCT, "tests", "data_samples")
    return [path for folder in folders for path in sorted((repository / folder).rglob("*.py"))]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_checker_is_content(command: list[str], repository: Path) -> None:
    tool, *rest = command
    outcome = subprocess.run([sys.executable, "-m", tool, *rest], cwd=repository, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_files_are_short(sources: list[Path]) -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in sources}
    assert len(lengths) > 20
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_names_say_something(sources: list[Path]) -> None:
    assert [path for path in sources if EMPTY_NAMES & {path.stem, path.parent.name}] == []


def test_modules_begin_with_a_sentence(sources: list[Path], repository: Path) -> None:
    modules = [
        path for path in sources if path.name != "__init__.py" and path.relative_to(repository).parts[0] in PRODUCT
    ]
    assert [path for path in modules if not path.read_text().startswith(('"""', 'r"""'))] == []


def test_annotations_stay_visible_to_the_shape_checks(sources: list[Path]) -> None:
    hidden = "from __future__ import " + "annotations"
    assert [path for path in sources if hidden in path.read_text()] == []


def test_shape_checks_are_on() -> None:
    import torch
    from jaxtyping import TypeCheckError

    from blocknerf.geometry import contract

    with pytest.raises(TypeCheckError):
        contract(torch.zeros(4, 2))


def test_no_file_knows_one_machine(repository: Path) -> None:
    """Absolute paths would tie the project, or a sample of it, to the machine it was made on."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("needs a git checkout to tell the project's files from others")
    files = [repository / name for name in tracked.stdout.split("\0") if name and Path(name).suffix in TEXT]
    lines = [
        f"{path.name}: {line}"
        for path in files
        if path.is_file() and path != Path(__file__)
        for line in path.read_text(errors="replace").splitlines()
        if ABSOLUTE.search(line) and not line.startswith("#!")
    ]
    assert lines == []


def test_examples_in_docstrings_are_true(repository: Path) -> None:
    modules = [
        ".".join(path.relative_to(repository).with_suffix("").parts)
        for name in PRODUCT
        for path in sorted((repository / name).rglob("*.py"))
        if re.search(r"^\s+>>> ", path.read_text(), re.MULTILINE)
    ]
    assert len(modules) > 3
    program = (
        "import doctest, importlib, sys\n"
        "failed = 0\n"
        "for name in sys.argv[1:]:\n"
        "    outcome = doctest.testmod(importlib.import_module(name))\n"
        "    assert outcome.attempted, f'{name}: its examples were not found'\n"
        "    failed += outcome.failed\n"
        "sys.exit(bool(failed))\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, *modules]
    outcome = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
