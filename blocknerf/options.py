"""Quality presets, and range checks of numeric options with one-line errors."""

from typing import Literal, get_args

from blocknerf.errors import OptionError

Preset = Literal["draft", "standard", "fine"]
"""`draft` takes minutes per block on a laptop, `standard` is for a GPU, `fine` for final results."""

PRESETS: tuple[Preset, ...] = get_args(Preset)


MAX_INT = 1_000_000_000
"""Default upper bound: larger numbers are typing errors and would overflow."""


def check_whole(*, least: int = 1, most: int = MAX_INT, **options: int | None) -> None:
    """Raise if an integer option is out of range; options are passed by parameter name, None if not set.

    >>> check_whole(steps=10, jobs=None)

    Raises:
        OptionError: names the option and its range.
    """
    for name, value in options.items():
        if value is not None and not least <= value <= most:
            raise OptionError(
                f"{flag(name)} {value} is out of range; give a whole number {_bounds(value, least, most)}"
            )


def check_number(*, least: float = 0.0, most: float = MAX_INT, **options: float | None) -> None:
    """Raise if a number is out of range or NaN; otherwise like `check_whole`.

    Raises:
        OptionError: names the option and its range.
    """
    for name, value in options.items():
        if value is not None and not least <= value <= most:
            raise OptionError(f"{flag(name)} {value:g} is out of range; give a number {_bounds(value, least, most)}")


def check_positive(**options: float | None) -> None:
    """Raise if a number is not above zero; otherwise like `check_whole`.

    Raises:
        OptionError: names the option.
    """
    for name, value in options.items():
        if value is not None and not 0.0 < value <= MAX_INT:
            raise OptionError(f"{flag(name)} {value:g} is out of range; give a number above 0, at most {MAX_INT}")


def flag(name: str) -> str:
    """Return a parameter as a command-line flag.

    >>> flag("image_cache_gb")
    '--image-cache-gb'
    """
    return f"--{name.replace('_', '-')}"


def _bounds(value: float, least: float, most: float) -> str:
    return f"of at least {least}" if value < least and most == MAX_INT else f"from {least} to {most}"
