"""Values in files that others wrote: which of them can be used, and how a message shows them.

JSON knows NaN, infinity and numbers that single precision does not. Every reader asks here, so that none passes a value
on which a later step would break.
"""

from reprlib import Repr
from typing import Any

MAX_VALUE = 2.0**63
"""Size of the largest number that is read: squares of it, and sums of three, are still finite in single precision.

Times in nanoseconds are the largest that files hold: 1.8e18 since 1970.
"""
MAX_COORDINATE = 1e12
"""Largest coordinate of a camera, point or block: what lies beyond is a broken number, not a place."""
MAX_SIDE = 65_536
"""Pixels of the longest side that an image may have: more is a mistake in a file."""
_SHOWN, _SPELLED = 40, 200

_short = Repr()
_short.maxstring = _short.maxlong = _short.maxother = _SHOWN
_short.maxlevel = 2


def finite(value: object, most: float = MAX_VALUE) -> float | None:
    """The number that a value is; None for another kind, NaN, infinity and numbers larger than `most` in size.

    >>> finite(3), finite(True), finite("3"), finite(float("nan")), finite(10**400)
    (3.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        return None
    return float(value)


def positive(value: object, most: float = MAX_VALUE) -> float | None:
    """The positive number that a value is; None for all others, and for those so small that their inverse is lost.

    >>> positive(0.5), positive(0), positive(1e-300)
    (0.5, None, None)
    """
    number = finite(value, most)
    return number if number is not None and number >= 1.0 / MAX_VALUE else None


def whole(value: object, least: int = 0, most: int = 2**53) -> int | None:
    """The whole number that a value is, also written with a point; None for all others, or out of range.

    >>> whole(7), whole(96.0), whole(7.5), whole(-1), whole(10**18)
    (7, 96, None, None, None)
    """
    number = value if isinstance(value, int) else finite(value)
    if number is None or isinstance(value, bool) or number != int(number) or not least <= number <= most:
        return None
    return int(number)


def format_value(value: Any) -> str:
    """A value in a message: as Python writes it, its middle left out where it is long.

    >>> format_value("x"), format_value([1, 2.5]), len(format_value("x" * 1000))
    ("'x'", '[1, 2.5]', 40)
    """
    return _short.repr(value)


def first_line(fault: Exception) -> str:
    r"""What an error of a library says, as a part of a message.

    >>> first_line(ValueError("no table\nat all")), first_line(ValueError())
    ('no table', 'ValueError')
    """
    return (str(fault).splitlines() or [type(fault).__name__])[0][:_SPELLED]


def one_case(name: str) -> str:
    r"""A name from a file in a message: as it stands, or as Python writes it where it would break the line.

    >>> one_case("fl_x"), one_case("a\nb")
    ('fl_x', "'a\\nb'")
    """
    return name if name.isprintable() and len(name) <= _SPELLED else format_value(name)
