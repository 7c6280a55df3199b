"""The order of imports that pyproject.toml lays down, and that importing the library costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "numba", "cv2", "scipy", "PIL", "viser", "triton", "av", "osmnx", "socket", "ssl")


def test_imports_follow_the_layers(repository: Path) -> None:
    outcome = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=repository, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_a_broken_layer_is_noticed(tmp_path: Path, repository: Path) -> None:
    for name in ("blocknerf", "pipelines", "viewer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "blocknerf" / "errors.py").write_text("import pipelines\n")
    (tmp_path / "pyproject.toml").write_text((repository / "pyproject.toml").read_text())
    outcome = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=tmp_path, capture_output=True, text=True
    )
    assert outcome.returncode != 0


def _loaded(program: str, folder: Path) -> set[str]:
    """Packages named by a program that prints modules."""
    outcome = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in outcome.stdout.split()}


@pytest.mark.parametrize("module", ["blocknerf", "pipelines", "pipelines.cli", "viewer"])
def test_importing_is_light(module: str, repository: Path) -> None:
    program = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    loaded = _loaded(program, repository)
    assert module.split(".")[0] in loaded
    assert not loaded & set(HEAVY)


def test_torch_alone_is_enough_for_fields_and_training(repository: Path) -> None:
    """Kernels and training run on machines that have torch, NumPy and Numba and nothing else of ours."""
    program = "import sys, blocknerf.training.trainer, blocknerf.fields.block_field; print(*sys.modules)"
    loaded = _loaded(program, repository)
    assert not loaded & {"av", "cv2", "imageio", "rich", "torchvision", "tyro", "viser"}
