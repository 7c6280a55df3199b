"""The command: its overview, its way of refusing, and that jobs become sub-commands as they are written."""

import errno
import inspect
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

from blocknerf import __version__
from blocknerf.errors import BlockNerfError, CaptureError
from blocknerf.kernels.backends import BackendWarning
from pipelines import cli


def bake(cake: Path, *, oven: Path, heat: Literal["low", "high"] = "low", minutes: int | None = None) -> str:
    """Bake a cake.

    It rises.

    Args:
        cake: what to bake.
        oven: where.
        heat: how hot.
        minutes: how long.
    """
    if cake.name == "sand":
        raise CaptureError("sand: cannot be baked;\nuse flour")
    if cake.name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "oven/full")
    if cake.name == "huge":
        raise MemoryError("Unable to allocate 9 EiB")
    if cake.name == "hostile":
        raise CaptureError("images/\x1b]0;owned\x07\u202egnp.exe: is no picture; replace it")
    if cake.name == "stop":
        raise KeyboardInterrupt
    if cake.name == "slow":
        warnings.warn("oven: 'fire' runs instead of 'gas'", BackendWarning, stacklevel=2)
        warnings.warn("others as usual", UserWarning, stacklevel=2)
    if cake.name == "bug":
        raise OSError(errno.EBADF, "Bad file descriptor")
    print(cake, oven, heat, minutes)
    return "baked"


@pytest.fixture
def bakery(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pipelines.bake")
    module.bake = bake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pipelines.bake", module)
    monkeypatch.setitem(cli.COMMANDS, "bake", "bake a cake")


@pytest.mark.usefixtures("bakery")
def test_parameters_come_from_the_signature(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bake", "sponge", "--oven", "gas", "--heat", "high", "--minutes", "40"]) == 0
    assert capsys.readouterr().out == "sponge gas high 40\n"
    assert cli.main(["bake", "sponge", "--oven", "gas"]) == 0
    assert capsys.readouterr().out == "sponge gas low None\n"


@pytest.mark.usefixtures("bakery")
def test_help_of_a_command_comes_from_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["bake", "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(part in text for part in ("blocknerf bake", "CAKE", "--oven", "{low,high}", "how hot", "It rises."))


@pytest.mark.usefixtures("bakery")
@pytest.mark.parametrize(
    "arguments", [["bake", "sponge"], ["bake", "sponge", "--oven", "a", "--heat", "blue"], ["bake", "--nonsense"]]
)
def test_wrong_options_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2


@pytest.mark.usefixtures("bakery")
@pytest.mark.parametrize(
    ("cake", "code", "line"),
    [
        ("sand", 2, "blocknerf: error: sand: cannot be baked; use flour\n"),
        (
            "full",
            2,
            "blocknerf: error: oven/full: No space left on device; free some space and run the same command again\n",
        ),
        (
            "huge",
            2,
            "blocknerf: error: memory ran out (Unable to allocate 9 EiB); close other programs or raise its limit\n",
        ),
        (
            "hostile",
            2,
            "blocknerf: error: images/\\x1b]0;owned\\x07\\u202egnp.exe: is no picture; replace it\n",
        ),
        ("stop", 130, "blocknerf: error: interrupted; the same command goes on from here\n"),
    ],
)
def test_a_refusal_is_one_line(cake: str, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bake", cake, "--oven", "gas"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("bakery")
def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["bake", "bug", "--oven", "gas"])


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bakery"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(name in told for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_has_a_line_for_each_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, described in cli.COMMANDS.items():
        assert [line for line in lines if line.split()[:1] == [name] and line.endswith(described)]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_each_parameter(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    job = getattr(sys.modules[cli.module_of(name)], name)
    for parameter in inspect.signature(job).parameters.values():
        by_place = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        option = f"--{parameter.name.rstrip('_').replace('_', '-')}"
        assert (parameter.name.upper() if by_place else option) in text
        assert f" {parameter.name}: " in (inspect.getdoc(job) or ""), f"{name}: {parameter.name} is not explained"


def test_a_module_runs_as_the_command(repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "--version"]
    told = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert told == f"blocknerf {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_nothing_is_said_where_nobody_reads_on(arguments: list[str], repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", *arguments]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.close()
        told = job.stderr.read()
    assert (job.returncode, told) == (cli.UNREAD, "")


def test_errors_share_one_parent() -> None:
    from blocknerf import errors

    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]
    assert len(kinds) > 5
    assert all(issubclass(kind, BlockNerfError) for kind in kinds)


@pytest.mark.usefixtures("bakery")
def test_a_backend_that_is_replaced_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="others as usual") as usual:
        assert cli.main(["bake", "slow", "--oven", "o"]) == 0
    assert len(usual) == 1
    assert capsys.readouterr().out.splitlines()[0] == "warning: oven: 'fire' runs instead of 'gas'"
