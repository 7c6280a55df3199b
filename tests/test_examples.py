"""The scripts and the notebook in `examples/`, run as their docstrings say on a small sample town."""

import csv
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blocknerf.capture.capture_file import read_capture
from blocknerf.city.manifest import read_city
from blocknerf.images import image_size, read_image
from blocknerf.importers.importer import ImportOptions
from pipelines.evaluate import evaluate
from pipelines.ingest import ingest
from pipelines.partition import partition
from pipelines.sample import sample
from pipelines.train import train

pytestmark = pytest.mark.timeout(600)
RunExample = Callable[..., str]


@pytest.fixture
def run_example(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunExample:
    """Return a function that runs an example in this process and returns what it prints."""

    def run_script(script: str, *arguments: object) -> str:
        path = str(repository / "examples" / script)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a small sample town: one segment, small blocks, hardly trained."""
    folder = tmp_path_factory.mktemp("examples")
    sample(folder / "town", width=96, height=54, drives=1, positions=8, samples_per_pixel=1)
    ingest(folder / "town", folder / "run")
    partition(folder / "run", radius=12.0)
    small = ("field.num_levels=4", "field.log2_hashmap_size=10", "training.rays_per_step=256")
    train(folder / "run", steps=8, jobs=1, overrides=small)
    evaluate(folder / "run", max_frames=2)
    return folder / "run"


def test_every_example_is_tested_and_begins_with_its_command(repository: Path) -> None:
    own = Path(__file__).read_text()
    scripts = sorted(path.name for path in (repository / "examples").iterdir() if path.suffix in (".py", ".ipynb"))
    assert len(scripts) == 7
    assert [name for name in scripts if f'"{name}"' not in own] == []
    for name in (each for each in scripts if each.endswith(".py")):
        command = rf"^ *(python examples/{name} |blocknerf .*examples\.{name[:-3]}:)"
        assert re.search(command, (repository / "examples" / name).read_text(), re.M)


def test_a_pose_is_rendered(run: Path, run_example: RunExample, tmp_path: Path) -> None:
    printed = run_example("01_render_from_a_pose.py", run, tmp_path / "a.png", "--frame", "3")
    assert image_size(tmp_path / "a.png") == (96, 54)
    assert re.match(r"b00\d: \d+% of the rendering, [\d.]+ units from its origin\n", printed)


def test_a_block_is_trained(run: Path, run_example: RunExample, tmp_path: Path) -> None:
    options = ["--steps", "20", "--every", "10", "--size", "18"]
    printed = run_example("02_train_a_block.py", run, "b000", tmp_path / "previews", *options)
    assert re.findall(r"step (\d+): loss [\d.]+, training PSNR [\d.]+ dB", printed) == ["10", "20"]
    first, second = (read_image(tmp_path / "previews" / f"000{step}.png") for step in (10, 20))
    assert first.shape == second.shape == (18, 32, 3)
    assert (first != second).any()


def test_an_importer_starts_a_run(run: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (repository / "examples" / "03_write_an_importer.py").is_file()
    capture = read_capture(run / "capture.json")
    with (tmp_path / "poses.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "segment", "x", "y", "z", "yaw", "focal"])
        for i, frame in enumerate(capture.frames[:12]):
            shutil.copy(capture.image_dir / frame.image, tmp_path / f"{i}.jpg")
            rows.writerow([f"{i}.jpg", "north" if i < 6 else "south", *frame.center, 90.0, 60.0])
    monkeypatch.chdir(repository)
    options = ImportOptions(importer="examples.03_write_an_importer:read_poses")
    imported = ingest(tmp_path / "poses.csv", tmp_path / "run", source=options)
    assert len(imported) == 12
    assert [*imported.segments] == ["north", "south"]
    assert imported.frames[3].center == pytest.approx(capture.frames[3].center)
    assert [row[2] for row in imported.frames[3].camera_to_world] == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
    partition(tmp_path / "run")
    assert read_city(tmp_path / "run" / "city.json").blocks


def test_moving_objects_are_masked(
    run: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (repository / "examples" / "07_mask_moving_objects.py").is_file()
    monkeypatch.chdir(repository)
    options = ImportOptions(mask_with="examples.07_mask_moving_objects:movable", mask_margin=2)
    masked = ingest(run / "capture.json", tmp_path / "run", source=options)
    mask = masked.read_mask(0)
    assert mask is not None
    rows = mask.mean(axis=1)
    assert rows[-1] < 0.5 < rows[0]
    assert any(note.startswith("masks ignore ") for note in masked.notes)


def test_a_weighting_is_compared(run: Path, run_example: RunExample, tmp_path: Path) -> None:
    printed = run_example("04_write_a_weighting.py", run, tmp_path / "w.png", "--frame", "12")
    assert image_size(tmp_path / "w.png") == (96, 108)
    assert re.search(r"^default \{'b00.*\}\nown \{'b00.*\}\nmean difference: 0\.\d+$", printed, re.M)


def test_two_runs_are_compared(run: Path, run_example: RunExample, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "second")
    evaluation = json.loads((tmp_path / "second" / "evaluation.json").read_text())
    evaluation["frames"][0]["psnr"] += 1.0
    (tmp_path / "second" / "evaluation.json").write_text(json.dumps(evaluation))
    printed = run_example("05_compare_two_runs.py", run, tmp_path / "second")
    assert "(+1.00)" in printed
    assert re.search(r"^mean of 2 images: [\d.]+ -> [\d.]+ dB$", printed, re.M)


def test_the_python_of_the_readme_runs(
    run: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    assert "runs/mini_city" in code
    code = code.replace("runs/mini_city", str(run)).replace("range(0, 60, 2)", "range(4)")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert image_size(tmp_path / "view.png") == (96, 54)


def test_the_notebook_runs(run: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((repository / "examples" / "06_explore_a_run.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells)
    monkeypatch.setenv("RUN", str(run))
    exec(compile("\n".join("".join(cell["source"]) for cell in cells), "notebook", "exec"), {})
