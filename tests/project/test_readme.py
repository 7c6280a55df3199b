"""What the README and the documents promise: commands, source map, links, pinned versions."""

import math
import re
from pathlib import Path

import pytest

from blocknerf.fields.spec import FieldSpec
from blocknerf.options import Preset
from blocknerf.training.config import PIXEL_PASSES, RAYS_PER_STEP, STEP_BOUNDS
from blocknerf.training.setup import MAX_IMAGE_SIDE
from pipelines.cli import COMMANDS

PRODUCT = ("blocknerf", "pipelines", "viewer")


@pytest.fixture(scope="session")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text()


@pytest.fixture(scope="session")
def mapped(repository: Path) -> list[str]:
    """Paths in the first column of the source map."""
    table = (repository / "docs" / "source_map.md").read_text()
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [path for row in rows for path in re.findall(r"`([^`]+)`", row)]


def test_every_mapped_path_exists(mapped: list[str], repository: Path) -> None:
    assert len(mapped) > 15
    assert [path for path in mapped if not (repository / path).exists()] == []
    assert [path for path in mapped if (repository / path).is_dir() != path.endswith("/")] == []


def test_every_module_is_mapped(mapped: list[str], repository: Path) -> None:
    entries = [entry for name in PRODUCT for entry in (repository / name).iterdir()]
    modules = [entry for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").exists()]
    paths = {entry.relative_to(repository).as_posix() + ("/" if entry.is_dir() else "") for entry in modules}
    unmapped = {path for path in paths if not path.split("/")[-1].startswith("__")} - set(mapped)
    assert unmapped == set()


def test_the_readme_is_short(readme: str) -> None:
    assert len(readme.splitlines()) <= 150


def test_the_readme_lists_every_command(readme: str) -> None:
    table = readme.split("## Commands")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `blocknerf (\w+)", table, re.MULTILINE))
    assert listed == set(COMMANDS)
    assert set(re.findall(r"blocknerf (\w+) [A-Z]", readme)) <= set(COMMANDS)


def test_the_table_of_presets_has_the_values_of_the_code(repository: Path) -> None:
    section = (repository / "docs" / "method.md").read_text().split("## Presets")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    names: tuple[Preset, ...] = ("draft", "standard", "fine")
    placement = {"origin": (0.0, 0.0, 0.0), "half_extent": 1.0, "near": 0.1, "far": 10.0, "frames": ()}
    specs = [FieldSpec.preset(name, **placement, exposure_reference=1.0) for name in names]
    expected = [
        ["unchanged" if MAX_IMAGE_SIDE[name] == math.inf else f"{MAX_IMAGE_SIDE[name]:,}" for name in names],
        [f"{PIXEL_PASSES[name]:g}" for name in names],
        ["{:,} to {:,}".format(*STEP_BOUNDS[name]) for name in names],
        [f"{RAYS_PER_STEP[name]:,}" for name in names],
        [f"{spec.num_levels}, 2^{spec.log2_hashmap_size}, {spec.max_resolution:,}" for spec in specs],
        [f"{spec.hidden_dim}" for spec in specs],
        [f"{spec.num_proposal_samples}, {spec.num_samples}" for spec in specs],
    ]
    assert rows[0][1:] == list(names)
    assert [row[1:] for row in rows[2:]] == expected


def test_make_targets_in_documents_exist(readme: str, repository: Path) -> None:
    contributing = (repository / "CONTRIBUTING.md").read_text()
    listed = set(re.findall(r"^make (\w+)", readme + contributing, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (repository / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "check", "docs"} <= listed <= targets


def test_every_link_and_image_exists(repository: Path) -> None:
    for document in (*repository.glob("*.md"), *repository.glob("docs/*.md")):
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
        local = [link for link in links if "://" not in link]
        assert [link for link in local if not (document.parent / link).exists()] == [], document.name


def test_paths_in_documents_exist(repository: Path) -> None:
    for document in (*repository.glob("*.md"), *repository.glob("docs/*.md")):
        named = set(
            re.findall(r"`((?:blocknerf|pipelines|viewer|tests|examples|docs)/[\w/]+(?:\.\w+|/))", document.read_text())
        )
        missing = [path for path in sorted(named) if not (repository / path).exists() and "NAME" not in path]
        assert missing == [], document.name


def test_what_the_documents_call_fixed_is_pinned(repository: Path) -> None:
    """Every dependency by name has an exact version in the constraints."""
    _, _, project = (repository / "pyproject.toml").read_text().partition("[project]")
    required = re.findall(r'"([A-Za-z0-9-]+)>=', project)
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (repository / "constraints.txt").read_text(), re.MULTILINE))
    assert {"torch", "numba", "pytest", "osmnx"} <= set(required)
    assert [name for name in required if name not in pins] == []
