"""Standard output and standard error: closed, full, of another encoding, or read by nobody any more."""

import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO


def prepare_streams() -> None:
    """Let closed standard streams lead nowhere, and write what an encoding lacks as codes."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    while nowhere < 3:  # A closed stream's number: else a file of the run would get it, and what libraries print.
        nowhere = os.open(os.devnull, os.O_RDWR)
    os.close(nowhere)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def stdout_closed() -> bool:
    """Whether nobody reads standard output any more; it is then thrown away, or Python would complain at its end."""
    output = select.poll()
    output.register(sys.stdout, 0)
    if not output.poll(0):
        return False
    _discard(sys.stdout)
    return True


def end_with_line(line: str) -> None:
    """Write a last line to standard error, if anybody can be told, and leave nothing to be written at the end."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{line}\n")):
        written = False
        with suppress(OSError):
            stream.write(text)
            stream.flush()
            written = True
        if not written:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let what is still to be written to a stream, and all that follows, lead nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
