"""The `blocknerf` command. Each sub-command is made from the signature and docstring of its job."""

import difflib
import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from blocknerf import __version__
from blocknerf.errors import BlockNerfError, OptionError, printable
from blocknerf.processes import INTERRUPTED, ended_by_signals
from pipelines.error_lines import check_address_space, end_with_line, error_line, prepare_streams, stdout_closed
from pipelines.option_groups import flatten_groups

COMMANDS: dict[str, str] = {
    "run": "run all steps from a capture to a fly-through and a report; skips finished steps",
    "ingest": "read a capture (images with poses) into a run folder",
    "inspect": "show what a capture holds, and a map of the blocks it would get",
    "poses": "compute the poses of photos or a video, by structure from motion",
    "partition": "place the blocks and assign training frames to each",
    "train": "train all blocks, or one; resumes from checkpoints",
    "align": "average the refined poses of overlapping blocks, and print the residuals",
    "match": "match the appearance of all blocks to one image or segment; saves an appearance preset",
    "render": "render a fly-through or another camera path to frames and a video",
    "update": "retrain one block on new images; the other blocks stay as they are",
    "evaluate": "compute metrics on the held-out images",
    "view": "show a trained city in the browser",
    "report": "write one HTML page with the map, metrics, training curves, renderings and a video",
    "export": "write the refined poses as a transforms.json",
    "backends": "list the kernel backends that this machine can use, and why",
    "sample": "generate a sample capture: a small town with known geometry",
}
"""Each command with its line in the overview. A command is the function of that name in the module of that name."""
VIEWER_COMMANDS = ("view",)
"""Commands that are in `viewer` and not in `pipelines`."""
SHORT_FORMS = {"jobs": "-j"}
OPTION_NAMES = {"overrides": "set"}
"""Options with another name than their parameter; each can be repeated."""
METAVARS = {
    "appearance": "PRESET", "block": "BLOCK", "blocks": "FILE", "images": "FOLDER", "importer": "MODULE:FUNCTION",
    "mask_with": "MODULE:FUNCTION", "masks": "FOLDER", "osm": "FILE", "out": "FOLDER", "overrides": "NAME=VALUE",
    "segment": "SEGMENT", "test_list": "FILE",
}  # fmt: skip
"""What the help shows for the value of an option, where its type says little."""
HIDDEN = ("parent_pid",)
"""Parameters for processes that start a command. They work, but `--help` does not list them."""
SECTIONS = ("Args:", "Returns:", "Raises:")

USAGE_ERROR, BROKEN_PIPE = 2, 141
ENCODING_HINT = "rename it, or set PYTHONUTF8=1 if its name is in UTF-8"
STOPPED = "interrupted; run the same command again to continue"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success; 2: an error that the user can fix; 130: interrupted by Ctrl-C or SIGTERM; 141: the reader of standard
    output closed the pipe, as `head` does.
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
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail(STOPPED, INTERRUPTED)
    except Exception as error:
        message = error_line(error, _parameters(arguments))
        if message is None:
            raise
        return _fail(message, USAGE_ERROR)


def module_name(name: str) -> str:
    """Return the module of a command's function.

    >>> module_name("train"), module_name("view")
    ('pipelines.train', 'viewer.view')
    """
    return f"{'viewer' if name in VIEWER_COMMANDS else 'pipelines'}.{name}"


def overview() -> str:
    """Return the text of `blocknerf --help`, without importing any job."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    head = "usage: blocknerf COMMAND [...]\n\nBlock-NeRF for street and aerial captures.\n\ncommands:"
    return "\n".join([head, *lines, "", "Run 'blocknerf COMMAND --help' for the options of a command."])


def make_command(job: Callable[..., Any], *, hidden: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the job as a command: parameters before the `*` are positional, those after it are options.

    Args:
        job: A function with a docstring in Google style.
        hidden: Parameters that the command does not take and its help does not list.
    """
    import tyro

    job = flatten_groups(job)
    hints = get_type_hints(job, include_extras=True)

    def annotated(parameter: inspect.Parameter) -> inspect.Parameter:
        kind, name = hints[parameter.name], parameter.name
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            kind = Annotated[kind, tyro.conf.Positional, tyro.conf.arg(metavar=name.upper())]
        elif name in hidden:
            kind = Annotated[kind, tyro.conf.Suppress]
        else:
            optional, empty = parameter.default is None, parameter.default in (None, ())
            option = tyro.conf.arg(
                name=OPTION_NAMES.get(name),
                aliases=[SHORT_FORMS[name]] if name in SHORT_FORMS else None,
                metavar=METAVARS.get(name, _metavar(kind) if optional else None),
                help_behavior_hint="" if empty else None,  # The docstring describes such a default.
            )
            kind = Annotated[kind, option]
            if name in OPTION_NAMES:
                kind = Annotated[kind, tyro.conf.UseAppendAction]
        return parameter.replace(annotation=kind)

    @functools.wraps(job)
    def command(*positional: Any, **options: Any) -> Any:
        _check_paths([*positional, *options.values()])
        return job(*positional, **options)

    signature = inspect.signature(job)
    parameters = [annotated(parameter) for parameter in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = join_lines(inspect.getdoc(job) or "")
    del command.__wrapped__  # Otherwise tyro finds the original signature.
    return command


def join_lines(docstring: str) -> str:
    """Return a docstring with one line per paragraph and per entry of a section, for tyro to wrap.

    >>> join_lines("Bake a cake\\nthat rises.\\n\\nArgs:\\n    cake: What\\n        to bake.\\n    oven: Where.")
    'Bake a cake that rises.\\n\\nArgs:\\n    cake: What to bake.\\n    oven: Where.'
    """
    lines: list[str] = []
    for line in docstring.splitlines():
        text = line.strip()
        starts_entry = line.startswith("    ") and not line.startswith("     ")
        if text and lines and lines[-1] and not starts_entry and not {text, lines[-1]} & {*SECTIONS}:
            lines[-1] += f" {text}"
        else:
            lines.append(line.rstrip())
    return "\n".join(lines)


def _metavar(kind: Any) -> str:
    """Return what the help shows for the value of an option that may be left out.

    >>> _metavar(int | None), _metavar(Path | None)
    ('INT', 'PATH')
    """
    values = [part for part in get_args(kind) if part is not type(None)]
    return "|".join(f"{{{','.join(get_args(part))}}}" if get_args(part) else part.__name__.upper() for part in values)


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"blocknerf {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the commands are {', '.join(COMMANDS)}"
        raise BlockNerfError(f"unknown command {name!r}; {hint}")
    _call(name, rest)
    return 0


def _call(name: str, arguments: list[str]) -> None:
    check_address_space()
    import blocknerf.kernels.threads  # noqa: F401, I001  # sets how threads wait, so it precedes torch
    import tyro

    job = getattr(importlib.import_module(module_name(name)), name)
    warnings.showwarning = functools.partial(_warn, warnings.showwarning)
    config = (tyro.conf.HelptextFromCommentsOff,)
    try:
        # An option that tyro hides is not accepted either, so options are hidden only where help is requested.
        command = make_command(job, hidden=HIDDEN if {"-h", "--help"} & {*arguments} else ())
        tyro.cli(command, prog=f"blocknerf {name}", args=arguments, config=config)
    except SystemExit:
        sys.stdout.flush()  # An error here is reported, too.
        raise


def _warn(default: Callable[..., None], message: Warning | str, category: type[Warning], *location: Any) -> None:
    """Print a backend warning as one line, and other warnings in Python's format."""
    from blocknerf.kernels.backends import BackendWarning
    from pipelines.console import log

    if issubclass(category, BackendWarning):
        log(f"warning: {message}")
    else:
        default(message, category, *location)


def _check_paths(values: Sequence[Any]) -> None:
    """Raise before any work if a path cannot be written into the files of a run.

    Raises:
        OptionError: The path is not text in the encoding of the file system.
    """
    for path in values:
        if isinstance(path, Path) and any("\ud800" <= character <= "\udfff" for character in str(path)):
            raise OptionError(f"{path}: this path is not text in {sys.getfilesystemencoding()}; {ENCODING_HINT}")


def _parameters(arguments: list[str]) -> list[str]:
    """Return the parameters of the command; none if its module is not loaded."""
    name = arguments[0] if arguments else ""
    job = getattr(sys.modules.get(module_name(name)), name, None)
    return list(inspect.signature(job).parameters) if callable(job) else []


def _fail(message: str, code: int) -> int:
    """Print an error as one line, and return the exit code."""
    end_with_line(f"blocknerf: error: {printable(' '.join(message.split()))}")
    return code
