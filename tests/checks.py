"""Type and shape checks of the package in all tests, limited to the first calls of each function in a test.

A check takes longer than most of the checked functions, and a training calls some of them 100,000 times.
"""

import inspect
import sys
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any

from beartype import BeartypeConf, beartype

CALLS = 100
"""Checked calls per function and test."""
_CONFIG = BeartypeConf(is_pep484_tower=True)
"""An int is accepted as a float, as by static type checkers."""

_counts: dict[Any, int] = {}
_unchecked: list[Any] = []


def begin() -> None:
    """Check all functions again, at the start of a test."""
    for function in _unchecked:
        function.__no_type_check__ = False
    _unchecked.clear()
    _counts.clear()


def first_calls(annotated: Callable[..., Any]) -> Callable[..., Any]:
    """A type checker for jaxtyping: beartype, for the first `CALLS` calls of a function."""
    check = beartype(conf=_CONFIG)(annotated)

    @wraps(check)
    def counted(*arguments: Any, **options: Any) -> Any:
        _counts[check] = _counts.get(check, 0) + 1
        if _counts[check] == CALLS and (function := _original(annotated)) is not None:
            # `typing.no_type_check` sets this attribute, and jaxtyping reads it in every call.
            function.__no_type_check__ = True
            _unchecked.append(function)
        return check(*arguments, **options)

    return counted


def _original(annotated: Callable[..., Any]) -> Any:
    """Return the undecorated function; None if its module does not hold it by its name."""
    member: Any = sys.modules.get(annotated.__module__)
    for name in annotated.__qualname__.split("."):
        member = inspect.getattr_static(member, name, None)
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, cached_property):
        member = member.func
    elif isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return inspect.unwrap(member) if inspect.isfunction(member) or hasattr(member, "__wrapped__") else None
