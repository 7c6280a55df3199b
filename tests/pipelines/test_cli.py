"""The command line: its overview, its errors, and the sub-commands made from jobs."""

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
from pipelines.option_groups import flatten_groups


def bake(
    cake: Path,
    *,
    oven: Path,
    heat: Literal["low", "high"] = "low",
    minutes: int | None = None,
    jobs: int | None = None,
    extras: tuple[str, ...] = (),
    parent_pid: int | None = None,
) -> str:
    """Bake a cake.

    It rises
    slowly.

    Args:
        cake: What to bake.
        oven: Where
            to bake.
        heat: How hot.
        minutes: How long. Default: until
            it is done.
        jobs: How many in parallel. Default: one.
        extras: What to add.
        parent_pid: ID of the parent process.
    """
    if cake.name == "sand":
        raise CaptureError("sand: cannot be baked;\nuse flour")
    if cake.name == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "oven/full")
    if cake.name == "huge":
        raise MemoryError("Unable to allocate 9 EiB")
    if cake.name == "hostile":
        raise CaptureError("images/\x1b]0;owned\x07\u202egnp.exe: is not an image; replace it")
    if cake.name == "stop":
        raise KeyboardInterrupt
    if cake.name == "slow":
        warnings.warn("oven: 'fire' runs instead of 'gas'", BackendWarning, stacklevel=2)
        warnings.warn("other warnings", UserWarning, stacklevel=2)
    if cake.name == "bug":
        raise OSError(errno.EBADF, "Bad file descriptor")
    print(cake, oven, heat, minutes)
    if jobs is not None or parent_pid is not None:
        print(jobs, parent_pid)
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
    assert all(
        part in text for part in ("blocknerf bake", "CAKE", "--oven", "{low,high}", "How hot", "It rises slowly.")
    )


@pytest.mark.usefixtures("bakery")
def test_help_has_whole_sentences_and_plain_value_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        cli.main(["bake", "--help"])
    text = capsys.readouterr().out
    assert all(part in text for part in ("Where to bake. (required)", "--minutes INT", "Default: until it is done."))
    assert not any(part in text for part in ("{None}", "(default: None)", "(default: )"))


@pytest.mark.usefixtures("bakery")
def test_parent_pid_works_but_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bake", "--help"])
    assert "parent" not in capsys.readouterr().out
    assert cli.main(["bake", "sponge", "--oven", "gas", "--parent-pid", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "None 7"


@pytest.mark.usefixtures("bakery")
@pytest.mark.parametrize("option", ["-j", "--jobs"])
def test_jobs_has_a_short_form(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bake", "sponge", "--oven", "gas", option, "3"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "3 None"


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
            (
                "blocknerf: error: out of memory (Unable to allocate 9 EiB); "
                "close other programs or raise the limit, or use less with --jobs\n"
            ),
        ),
        (
            "hostile",
            2,
            "blocknerf: error: images/\\x1b]0;owned\\x07\\u202egnp.exe: is not an image; replace it\n",
        ),
        ("stop", 130, "blocknerf: error: interrupted; run the same command again to continue\n"),
    ],
)
def test_an_error_is_one_line(cake: str, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bake", cake, "--oven", "gas"]) == code
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("bakery")
def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["bake", "bug", "--oven", "gas"])


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bakery"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(name in error for name in cli.COMMANDS)


@pytest.mark.parametrize(("typed", "command"), [("trian", "train"), ("eval", "evaluate"), ("repot", "report")])
def test_a_mistyped_command_gets_a_suggestion(typed: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed]) == 2
    assert capsys.readouterr().err == f"blocknerf: error: unknown command {typed!r}; did you mean {command!r}?\n"


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
    job = flatten_groups(getattr(sys.modules[cli.module_name(name)], name))
    for parameter in inspect.signature(job).parameters.values():
        is_positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        option = f"--{cli.OPTION_NAMES.get(parameter.name, parameter.name).replace('_', '-')}"
        assert ((parameter.name.upper() if is_positional else option) in text) == (parameter.name not in cli.HIDDEN)
        assert f" {parameter.name}: " in (inspect.getdoc(job) or ""), f"{name}: {parameter.name} is not explained"


def test_a_module_runs_as_the_command(repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "--version"]
    output = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert output == f"blocknerf {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_a_broken_pipe_prints_nothing(arguments: list[str], repository: Path) -> None:
    command = [sys.executable, "-m", "pipelines", *arguments]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        job.stdout.close()
        error = job.stderr.read()
    assert (job.returncode, error) == (cli.BROKEN_PIPE, "")


def test_errors_share_one_parent() -> None:
    from blocknerf import errors

    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__]
    assert len(kinds) > 5
    assert all(issubclass(kind, BlockNerfError) for kind in kinds)


@pytest.mark.usefixtures("bakery")
def test_a_backend_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="other warnings") as others:
        assert cli.main(["bake", "slow", "--oven", "o"]) == 0
    assert len(others) == 1
    assert capsys.readouterr().out.splitlines()[0] == "warning: oven: 'fire' runs instead of 'gas'"
