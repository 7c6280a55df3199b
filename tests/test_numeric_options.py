"""Every numeric option of every command, found by the jobs' signatures: in range, or refused in one line.

Nothing is trained or rendered: a command that accepts its options is stopped at the first step of its work.
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
from tests.test_bad_input import Place
from tests.tree import tree

REFUSED = {float: ("nan", "inf", "-inf", "1e300"), int: (str(10**30),)}
"""What is in no option's range."""
EDGES = {float: ("0", "-1"), int: ("0", "-1", "1000000000")}
"""What is in the range of some."""
WORK = {
    "run": "pipelines.run.ingest",
    "partition": "pipelines.partition._publish",
    "train": "pipelines.train.BlockTraining",
    "match": "pipelines.match.BlockGraph",
    "render": "pipelines.render._reserve_folder",
    "update": "pipelines.update._prepare",
    "evaluate": "pipelines.evaluate._score",
    "view": "viewer.view.import_viser",
    "sample": "pipelines.sample.write_sample",
}
"""Where the work of a command begins."""


class AcceptedError(BaseException):
    """The options were accepted."""


def numeric_options() -> list[tuple[str, str, type]]:
    """Command, parameter, and whether it takes whole numbers."""
    found = []
    for command in cli.COMMANDS:
        job = getattr(importlib.import_module(cli.module_of(command)), command)
        hints = get_type_hints(job)
        for name in inspect.signature(job).parameters:
            kinds = {hints[name], *get_args(hints[name])}
            found += [(command, name, kind) for kind in (int, float) if kind in kinds]
    return found


OPTIONS = numeric_options()
CASES = [(command, name, value) for command, name, kind in OPTIONS for value in REFUSED[kind]]
EDGE_CASES = [(command, name, value) for command, name, kind in OPTIONS for value in EDGES[kind]]


def stop(*_: Any, **__: Any) -> None:
    raise AcceptedError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture and its run, partitioned, whose blocks only seem to be trained."""
    folder = tmp_path_factory.mktemp("prepared")
    place = Place(folder)
    place.edit(lambda document: [frame.update(exposure=1.0) for frame in document["frames"]])
    place.partitioned()
    return folder


@pytest.fixture
def base(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The shortest line of each command that is accepted."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    capture, run = tmp_path / "capture", tmp_path / "run"
    for work in WORK.values():
        module, _, name = work.rpartition(".")
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
            "train": [str(run), "--pose-refinement"],
            "update": [str(run), "--block", "b000", "--capture", str(capture)],
            "view": [str(run), "--port", "0"],
            "sample": [str(tmp_path / "town")],
        }
        return [command, *lines.get(command, [str(run)])]

    return line


def test_there_are_numeric_options_and_each_command_with_some_is_stopped_at_its_work() -> None:
    assert {("train", "threads", int), ("render", "fps", float), ("run", "radius", float)} <= set(OPTIONS)
    assert {command for command, _, _ in OPTIONS} == WORK.keys()


@pytest.mark.parametrize("command", WORK)
def test_a_command_is_accepted_without_them(command: str, base: Callable[[str], list[str]]) -> None:
    with pytest.raises(AcceptedError):
        cli.main(base(command))


@pytest.mark.parametrize(("command", "name", "value"), CASES)
def test_what_no_option_can_be_is_refused(
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
    assert_refused(capfd.readouterr().err, name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("command", "name", "value"), EDGE_CASES)
def test_what_some_options_can_be_is_accepted_or_refused(
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
    assert_refused(capfd.readouterr().err, name)
    assert tree(tmp_path) == before


def assert_refused(told: str, name: str) -> None:
    """One line that names the option."""
    assert told.startswith("blocknerf: error: ")
    assert told.count("\n") == 1
    assert f"{flag(name)} " in told
