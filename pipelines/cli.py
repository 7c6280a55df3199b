"""The `blocknerf` command: one sub-command a job, made from the job's signature and docstring."""

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from blocknerf import __version__
from blocknerf.errors import BlockNerfError, OptionError
from blocknerf.printable import printable
from blocknerf.processes import INTERRUPTED, ended_by_signals
from pipelines.refusals import check_address_space, refusal_of
from pipelines.streams import end_with_line, prepare_streams, stdout_closed

COMMANDS: dict[str, str] = {
    "run": "everything below, from a capture to a fly-through and a report; skips what is done",
    "ingest": "read a capture (photographs with poses) into a run folder",
    "partition": "place the blocks and say which frames train each",
    "train": "train the blocks, or one; resumes where it was stopped",
    "align": "bring the poses that blocks refined into one trajectory, and say how far they disagree",
    "match": "match the blocks' appearance codes to one light, and store them as a look",
    "render": "render a fly-through, or any other camera path, to a video and frames",
    "update": "train one block anew on new photographs, and leave the others as they are",
    "evaluate": "score the frames that were held out of training",
    "view": "show a trained city in the browser",
    "report": "write one page with the plan, scores, curves, pictures and fly-through",
    "export": "write the refined poses for other programs",
    "backends": "say which kernels this machine can use, and why",
    "sample": "make a small town with known geometry: a capture to try everything on",
}
"""Each with its line in the overview. A command is the function of that name in the module of that name."""
VIEWER = ("view",)
"""Those that are not in `pipelines`."""

USAGE_ERROR, UNREAD = 2, 141
NAMED = "rename it, or set PYTHONUTF8=1 where its name is in UTF-8"
STOPPED = "interrupted; the same command goes on from here"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code: 0, 2 for an error a user can act on, 130 when interrupted,
    by Ctrl-C or by SIGTERM.

    141 when who read what it prints has left, as `head` does.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    try:
        with ended_by_signals():
            code = _dispatch(arguments)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        if not stdout_closed():
            raise
        return UNREAD
    except KeyboardInterrupt:
        return _refuse(STOPPED, INTERRUPTED)
    except Exception as error:
        message = refusal_of(error, _parameters(arguments))
        if message is None:
            raise
        return _refuse(message, USAGE_ERROR)


def module_of(name: str) -> str:
    """The module that holds a command's function.

    >>> module_of("train"), module_of("view")
    ('pipelines.train', 'viewer.view')
    """
    return f"{'viewer' if name in VIEWER else 'pipelines'}.{name}"


def overview() -> str:
    """The text of `blocknerf --help`, written without importing any job."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    head = "usage: blocknerf COMMAND [...]\n\nCity-scale neural radiance fields, a block at a time.\n\ncommands:"
    return "\n".join([head, *lines, "", "`blocknerf COMMAND --help` lists the options of one command."])


def command_of(job: Callable[..., Any]) -> Callable[..., Any]:
    """The job as a command: parameters before the `*` are given by place, those after it as options."""
    import tyro

    hints = get_type_hints(job, include_extras=True)

    def marked(parameter: inspect.Parameter) -> inspect.Parameter:
        kind = hints[parameter.name]
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            kind = Annotated[kind, tyro.conf.Positional, tyro.conf.arg(metavar=parameter.name.upper())]
        elif parameter.name.endswith("_"):  # A word that Python keeps for itself.
            kind = Annotated[kind, tyro.conf.arg(name=parameter.name[:-1])]
        return parameter.replace(annotation=kind)

    @functools.wraps(job)
    def command(*positional: Any, **options: Any) -> Any:
        _check_paths([*positional, *options.values()])
        return job(*positional, **options)

    signature = inspect.signature(job)
    parameters = [marked(parameter) for parameter in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__  # else the unmarked signature is found through it
    return command


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"blocknerf {__version__}")
        return 0
    if name not in COMMANDS:
        raise BlockNerfError(f"there is no command {name!r}; the commands are {', '.join(COMMANDS)}")
    _call(name, rest)
    return 0


def _call(name: str, arguments: list[str]) -> None:
    check_address_space()
    import blocknerf.kernels.threads  # noqa: F401, I001  # decides how threads wait, so it comes before torch
    import tyro

    job = getattr(importlib.import_module(module_of(name)), name)
    warnings.showwarning = functools.partial(_warn, warnings.showwarning)
    config = (tyro.conf.HelptextFromCommentsOff,)
    try:
        tyro.cli(command_of(job), prog=f"blocknerf {name}", args=arguments, config=config)
    except SystemExit:
        sys.stdout.flush()  # a failure here is one to tell of, too
        raise


def _warn(usual: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print what a job warns of as the line that it is, and other warnings as usual."""
    from blocknerf.kernels.backends import BackendWarning
    from pipelines.console import log

    if issubclass(category, BackendWarning):
        log(f"warning: {message}")
    else:
        usual(message, category, *place)


def _check_paths(values: Sequence[Any]) -> None:
    """Refuse a path that could not be named in any file of a run, before hours of work lead to one."""
    for path in values:
        if isinstance(path, Path) and any("\ud800" <= each <= "\udfff" for each in str(path)):
            raise OptionError(f"{path}: this path is not text in {sys.getfilesystemencoding()}; {NAMED}")


def _parameters(arguments: list[str]) -> list[str]:
    """The parameters of the command, as far as it was loaded."""
    name = arguments[0] if arguments else ""
    job = getattr(sys.modules.get(module_of(name)), name, None)
    return list(inspect.signature(job).parameters) if callable(job) else []


def _refuse(message: str, code: int) -> int:
    """Tell why a command ends, as one line, and give its exit code."""
    end_with_line(f"blocknerf: error: {printable(' '.join(message.split()))}")
    return code
