"""Handling of standard output and standard error that are closed, full, broken pipes or not UTF-8."""

import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def prepare_streams() -> None:
    """Redirect closed standard streams to the null device, and escape characters that the encoding lacks."""
    null = os.open(os.devnull, os.O_RDWR)
    while null < 3:  # Otherwise a file of the run would get a closed stream's number, and with it what libraries print.
        null = os.open(os.devnull, os.O_RDWR)
    os.close(null)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # open until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def stdout_closed() -> bool:
    """Return whether the reader of standard output closed the pipe; if so, discard output to avoid an error at exit."""
    output = select.poll()
    output.register(sys.stdout, 0)
    if not output.poll(0):
        return False
    _discard(sys.stdout)
    return True


def end_with_line(line: str) -> None:
    """Write a last line to standard error if it can be written, and flush both streams."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n")):
        written = False
        with suppress(OSError):
            stream.write(text)
            stream.flush()
            written = True
        if not written:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, including its buffered output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
