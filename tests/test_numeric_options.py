"""All numeric options of all commands, from the signatures of the jobs: in range, or rejected with a one-line error.

Nothing is trained or rendered: a command that accepts its options is stopped at its first step.
"""

import importlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from blocknerf.options import flag
from pipelines import cli
from pipelines.option_groups import flatten_groups
from tests.test_bad_input import Place
from tests.tree import tree

OUT_OF_RANGE = {float: ("nan", "inf", "-inf", "1e300"), int: (str(10**30),)}
"""Values out of range for all options."""
EDGES = {float: ("0", "-1"), int: ("0", "-1", "1000000000")}
"""Values in range for some options."""
FIRST_STEPS = {
    "run": "pipelines.run.ingest",
    "ingest": "pipelines.ingest.load_source",
    "inspect": "pipelines.inspect.load_source",
    "poses": "pipelines.poses.poses_of_photos",
    "partition": "pipelines.partition._publish",
    "train": "pipelines.train.BlockTraining",
    "match": "pipelines.match.BlockGraph",
    "render": "pipelines.render._reserve_folder",
    "update": "pipelines.update._prepare",
    "evaluate": "pipelines.evaluate._evaluate",
    "view": "viewer.view.import_viser",
    "sample": "pipelines.sample.write_sample",
}
"""The first step of each command, which raises `AcceptedError`."""


class AcceptedError(BaseException):
    """The options were accepted."""


def numeric_options() -> list[tuple[str, str, type]]:
    """Return command, parameter name and type of all numeric options."""
    options = []
    for command in cli.COMMANDS:
        job = flatten_groups(getattr(importlib.import_module(cli.module_name(command)), command))
        hints = get_type_hints(job)
        for name in inspect.signature(job).parameters:
            kinds = {hints[name], *get_args(hints[name])}
            options += [(command, name, kind) for kind in (int, float) if kind in kinds]
    return options


OPTIONS = numeric_options()
CASES = [(command, name, value) for command, name, kind in OPTIONS for value in OUT_OF_RANGE[kind]]
EDGE_CASES = [(command, name, value) for command, name, kind in OPTIONS for value in EDGES[kind]]


def stop(*_: Any, **__: Any) -> None:
    raise AcceptedError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture and its partitioned run, with placeholders for trained blocks."""
    folder = tmp_path_factory.mktemp("prepared")
    place = Place(folder)
    place.edit(lambda document: [frame.update(exposure=1.0) for frame in document["frames"]])
    place.partitioned()
    return folder


@pytest.fixture
def base(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return the shortest accepted command line of each command."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    capture, run = tmp_path / "capture", tmp_path / "run"
    for step in FIRST_STEPS.values():
        module, _, name = step.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), name, stop)
    monkeypatch.setattr("pipelines.train.train_parallel", stop)
    monkeypatch.setattr("blocknerf.processes._watch", lambda parent: None)
    monkeypatch.setattr("pipelines.train._compile_kernels", lambda processes: None)
    monkeypatch.setattr("pipelines.render._check_fields", lambda folder, city: None)

    def line(command: str) -> list[str]:
        if command == "update":
            (run / "blocks" / "b000" / "field.safetensors").touch()
        if command == "partition":
            (run / "city.json").unlink(missing_ok=True)
        lines: dict[str, list[str]] = {
            "run": [str(capture), "--out", str(tmp_path / "new"), "--pose-refinement"],
            "ingest": [str(capture), str(tmp_path / "new")],
            "inspect": [str(capture), "--image", str(tmp_path / "map.png")],
            "poses": [str(capture), "--out", str(tmp_path / "posed")],
            "train": [str(run), "--pose-refinement"],
            "update": [str(run), "--block", "b000", "--capture", str(capture)],
            "view": [str(run), "--port", "0"],
            "sample": [str(tmp_path / "town")],
        }
        return [command, *lines.get(command, [str(run)])]

    return line


def test_all_commands_with_numeric_options_are_listed() -> None:
    assert {("train", "threads", int), ("render", "fps", float), ("run", "radius", float)} <= set(OPTIONS)
    assert {command for command, _, _ in OPTIONS} == FIRST_STEPS.keys()


@pytest.mark.parametrize("command", FIRST_STEPS)
def test_a_command_is_accepted_without_options(command: str, base: Callable[[str], list[str]]) -> None:
    with pytest.raises(AcceptedError):
        cli.main(base(command))


@pytest.mark.parametrize(("command", "name", "value"), CASES)
def test_values_out_of_range_are_rejected(
    command: str,
    name: str,
    value: str,
    base: Callable[[str], list[str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = [*base(command), f"{flag(name)}={value}"]
    before = tree(tmp_path)
    assert cli.main(arguments) == 2
    assert_rejected(capfd.readouterr().err, name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("command", "name", "value"), EDGE_CASES)
def test_edge_values_are_accepted_or_rejected(
    command: str,
    name: str,
    value: str,
    base: Callable[[str], list[str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = [*base(command), f"{flag(name)}={value}"]
    before = tree(tmp_path)
    try:
        assert cli.main(arguments) == 2
    except AcceptedError:
        return
    assert_rejected(capfd.readouterr().err, name)
    assert tree(tmp_path) == before


def assert_rejected(stderr: str, name: str) -> None:
    """Assert that the error is one line and names the option."""
    assert stderr.startswith("blocknerf: error: ")
    assert stderr.count("\n") == 1
    assert f"{flag(name)} " in stderr
