"""Functions of the user: importers and mask functions, named as module:function."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blocknerf.capture.capture import Capture, check_files
from blocknerf.errors import BlockNerfError, CaptureError
from blocknerf.values import first_line


def load_function(reference: str, option: str) -> Callable[..., Any]:
    """Return the function that an option names as module:function; modules of the current folder are found, too.

    Raises:
        CaptureError: the module cannot be imported or has no such function.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise CaptureError(f"{option} {reference}: is not module:function; write for example mine:read")
    with errors_of(f"{option} {reference}: importing {module_name}"), _current_folder_first():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the module exists, and imports one that does not
            raise CaptureError(f"there is no module {error.name} here; run the command in its folder") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise CaptureError(f"{option} {reference}: {module_name} has no function {name}; check the name")
    return function


def run_importer(reference: str, path: Path) -> Capture:
    """Return the capture that a user's importer reads from a file or folder, with its files checked.

    Raises:
        CaptureError: there is no such function, it raises, or it returns something else.
    """
    function = load_function(reference, "--importer")
    with errors_of(f"--importer {reference}"):
        capture = function(path)
    if not isinstance(capture, Capture):
        kind = type(capture).__name__
        raise CaptureError(f"--importer {reference}: returned {kind}, not a blocknerf.Capture; return one")
    check_files(capture)
    return capture


@contextmanager
def errors_of(what: str) -> Iterator[None]:
    """Turn an error of a user's function into one line with its place; errors of this package keep their text."""
    try:
        yield
    except BlockNerfError as error:
        raise CaptureError(f"{what}: {error}") from None
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name} line {last.lineno}"
        raise CaptureError(
            f"{what} raised {type(error).__name__} ({first_line(error)}) in {place}; correct the function"
        ) from None


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Let imports find modules of the current folder first, as `python -m` does, and afterwards last."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # A function may import more when it runs.
