"""Plain-text tables of driving logs: numbers per line, `key: numbers`, dates; every error names file and line."""

import calendar
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from blocknerf.errors import CaptureError
from blocknerf.files import read_bounded
from blocknerf.values import finite, format_value

MAX_TEXT_BYTES = 1 << 28
"""Maximum size of a text file; the poses of a drive of a million frames take 200 MB."""
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(\.\d{1,12})?")


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file without blank ones at its end; `what` is its name in a message.

    Raises:
        CaptureError: the file is missing, too large, or not text.
    """
    try:
        text = read_bounded(path, what, CaptureError, MAX_TEXT_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise CaptureError(f"{path}: this {what} does not exist; restore it") from None
    except UnicodeError:
        raise CaptureError(f"{path}: this {what} is not text; restore it") from None
    return text.rstrip().splitlines()


def parse_numbers(text: str, count: int, where: str) -> list[float]:
    """Return exactly `count` finite numbers from a line; `where` names file and line in a message.

    Raises:
        CaptureError: there are fewer or more, or one is not a finite number.
    """
    words = text.split()
    if len(words) != count:
        raise CaptureError(f"{where}: has {len(words)} values instead of {count}; correct it")
    return [_number(word, where) for word in words]


def read_table(path: Path, what: str, columns: int) -> Float64[np.ndarray, "rows columns"]:
    """Return a file of `columns` numbers per line.

    Raises:
        CaptureError: the file is missing or empty, or a line is not that many finite numbers.
    """
    lines = read_lines(path, what)
    if not lines:
        raise CaptureError(f"{path}: this {what} is empty; restore it")
    rows = [parse_numbers(line, columns, f"{path}: line {i}") for i, line in enumerate(lines, 1)]
    return np.array(rows, np.float64).reshape(-1, columns)


def read_calibration(path: Path) -> dict[str, str]:
    """Return the text after each key of a file of lines `key: values`.

    Raises:
        CaptureError: the file is missing or not text.
    """
    pairs = (line.partition(":") for line in read_lines(path, "calibration file"))
    return {key.strip(): values for key, colon, values in pairs if colon}


def calibration_matrix(
    calibration: dict[str, str], key: str, shape: tuple[int, int], path: Path
) -> Float64[np.ndarray, "rows columns"]:
    """Return one entry of a calibration as a matrix, row by row.

    Raises:
        CaptureError: the key is missing, or its value is not that many finite numbers.
    """
    if key not in calibration:
        raise CaptureError(f"{path}: {key} is missing; restore the calibration of this drive")
    return np.array(parse_numbers(calibration[key], shape[0] * shape[1], f"{path}: {key}"), np.float64).reshape(shape)


def read_dates(path: Path) -> list[float]:
    """Return the times of a file of lines such as `2011-09-26 13:02:25.964389445`, in seconds since 1970.

    Raises:
        CaptureError: the file is missing, or a line is not a date.
    """
    return [parse_date(line, f"{path}: line {i}") for i, line in enumerate(read_lines(path, "timestamp file"), 1)]


def parse_date(text: str, where: str) -> float:
    """Return a date with time in seconds since 1970, as if it were UTC.

    >>> parse_date("1970-01-02 00:00:01.25", "here")
    86401.25
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise CaptureError(f"{where}: {format_value(text)} is not a time like 2011-09-26 13:02:25.964; correct it")
    year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
    try:
        whole = calendar.timegm((year, month, day, hour, minute, second))
    except ValueError:
        raise CaptureError(f"{where}: {format_value(text)} is not a date; correct it") from None
    return whole + float(match[7] or 0)


def _number(word: str, where: str) -> float:
    try:
        number = finite(float(word))
    except ValueError:
        number = None
    if number is None:
        raise CaptureError(f"{where}: {format_value(word)} is not a finite number; correct it")
    return number
