"""The wheel works outside the checkout: built, installed into a new environment, and used there."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)
PACKAGES = ("blocknerf", "pipelines", "viewer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The wheel, built from a copy of what the build needs."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    outcome = subprocess.run([*command, "--wheel-dir", out, source], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    (path,) = out.iterdir()
    return path


def test_it_holds_every_module_and_nothing_else(wheel: Path, repository: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = [path for package in PACKAGES for path in (repository / package).rglob("*") if path.is_file()]
    expected = {path.relative_to(repository).as_posix() for path in sources if "__pycache__" not in path.parts}
    assert names == expected
    assert {"blocknerf/py.typed", "blocknerf/__init__.pyi"} <= names


def test_it_ingests_and_partitions_the_sample_in_a_new_environment(
    wheel: Path, tmp_path: Path, repository: Path
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    target = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # The dependencies are those of this environment; its editable install of the checkout is not seen from here.
    (Path(target) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = tmp_path / "elsewhere"
    place.mkdir()

    def blocknerf(*arguments: str) -> None:
        outcome = subprocess.run(
            [environment / "bin" / "blocknerf", *arguments], cwd=place, capture_output=True, text=True
        )
        assert outcome.returncode == 0, outcome.stderr

    blocknerf("ingest", str(repository / "data_samples" / "mini_city"), "run")
    blocknerf("partition", "run")
    assert (place / "run" / "city.json").is_file()
    code = "import blocknerf; print(blocknerf.__file__, len(blocknerf.load_run('run').capture))"
    printed = subprocess.run([python, "-c", code], cwd=place, capture_output=True, text=True, check=True).stdout.split()
    assert Path(printed[0]).is_relative_to(environment)
    assert int(printed[1]) > 0
