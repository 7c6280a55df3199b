"""Validation of values from files, and their text in messages.

Python's JSON reader accepts NaN, infinity and numbers beyond single precision. All readers use these checks, so that no
value breaks a later step.
"""

from reprlib import Repr
from typing import Any

MAX_VALUE = 2.0**63
"""Maximum absolute value of a number: a sum of three squares is still finite in single precision.

The largest numbers in files are times in nanoseconds: 1.8e18 since 1970.
"""
MAX_COORDINATE = 1e12
"""Maximum coordinate of a camera, point or block; larger values are broken numbers, not positions."""
MAX_SIDE = 65_536
"""Maximum side of an image in pixels; more is a mistake in a file."""
_MAX_VALUE_CHARS, _MAX_LINE_CHARS = 40, 200

_short = Repr()
_short.maxstring = _short.maxlong = _short.maxother = _MAX_VALUE_CHARS
_short.maxlevel = 2


def finite(value: object, most: float = MAX_VALUE) -> float | None:
    """Return a number as a float; None for other types, NaN, infinity and absolute values above `most`.

    >>> finite(3), finite(True), finite("3"), finite(float("nan")), finite(10**400)
    (3.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        return None
    return float(value)


def positive(value: object, most: float = MAX_VALUE) -> float | None:
    """Return a positive number as a float; None for all other values, and if its inverse would be out of range.

    >>> positive(0.5), positive(0), positive(1e-300)
    (0.5, None, None)
    """
    number = finite(value, most)
    return number if number is not None and number >= 1.0 / MAX_VALUE else None


def whole(value: object, least: int = 0, most: int = 2**53) -> int | None:
    """Return an integer, also if written as a float; None for all other values, or if out of range.

    >>> whole(7), whole(96.0), whole(7.5), whole(-1), whole(10**18)
    (7, 96, None, None, None)
    """
    number = value if isinstance(value, int) else finite(value)
    if number is None or isinstance(value, bool) or number != int(number) or not least <= number <= most:
        return None
    return int(number)


def format_value(value: Any) -> str:
    """Return the repr of a value for a message, with the middle of a long one left out.

    >>> format_value("x"), format_value([1, 2.5]), len(format_value("x" * 1000))
    ("'x'", '[1, 2.5]', 40)
    """
    return _short.repr(value)


def first_line(fault: Exception) -> str:
    r"""Return the first line of an exception's text, for a message.

    >>> first_line(ValueError("no table\nat all")), first_line(ValueError())
    ('no table', 'ValueError')
    """
    return (str(fault).splitlines() or [type(fault).__name__])[0][:_MAX_LINE_CHARS]


def one_case(name: str) -> str:
    r"""Return a name from a file for a message: unchanged, or its repr if it would break the line.

    >>> one_case("fl_x"), one_case("a\nb")
    ('fl_x', "'a\\nb'")
    """
    return name if name.isprintable() and len(name) <= _MAX_LINE_CHARS else format_value(name)
