"""Numbers that a user gives, refused in one line where they are out of range."""

from blocknerf.errors import OptionError

MAX_INT = 1_000_000_000
"""The largest number where nothing else bounds it: beyond, it is a slip of the keyboard and overflows somewhere."""


def check_whole(*, least: int = 1, most: int = MAX_INT, **options: int | None) -> None:
    """Refuse whole numbers out of range; each is given under its parameter's name, None where it was left out.

    >>> check_whole(steps=10, jobs=None)

    Raises:
        OptionError: naming the option and its range.
    """
    for name, value in options.items():
        if value is not None and not least <= value <= most:
            raise OptionError(f"{flag(name)} {value} is out of range; give a whole number {_span(value, least, most)}")


def check_number(*, least: float = 0.0, most: float = MAX_INT, **options: float | None) -> None:
    """Refuse numbers out of range, and NaN, as `check_whole` does.

    Raises:
        OptionError: naming the option and its range.
    """
    for name, value in options.items():
        if value is not None and not least <= value <= most:
            raise OptionError(f"{flag(name)} {value:g} is out of range; give a number {_span(value, least, most)}")


def check_positive(**options: float | None) -> None:
    """Refuse what is not a number above zero, as `check_whole` does.

    Raises:
        OptionError: naming the option.
    """
    for name, value in options.items():
        if value is not None and not 0.0 < value <= MAX_INT:
            raise OptionError(f"{flag(name)} {value:g} is out of range; give a number above 0, at most {MAX_INT}")


def flag(name: str) -> str:
    """A parameter as it is typed.

    >>> flag("image_cache_gb")
    '--image-cache-gb'
    """
    return f"--{name.replace('_', '-')}"


def _span(value: float, least: float, most: float) -> str:
    return f"of at least {least}" if value < least and most == MAX_INT else f"from {least} to {most}"
