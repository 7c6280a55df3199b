"""Types and shapes, checked wherever a test calls the product: of each function, the first calls in every test.

A check costs more than most of what is checked, and a training calls the same functions by the hundred thousand.
"""

import inspect
import sys
from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any

from beartype import BeartypeConf, beartype

CALLS = 100
"""Of one function in one test."""
_CONFIG = BeartypeConf(is_pep484_tower=True)
"""An int passes for a float, as for a type checker."""

_counts: dict[Any, int] = {}
_spared: list[Any] = []


def begin() -> None:
    """Check every function again: another test begins."""
    for function in _spared:
        function.__no_type_check__ = False
    _spared.clear()
    _counts.clear()


def first_calls(annotated: Callable[..., Any]) -> Callable[..., Any]:
    """A type checker for jaxtyping: beartype's, which lets a function alone once it was checked often enough."""
    check = beartype(conf=_CONFIG)(annotated)

    @wraps(check)
    def counted(*arguments: Any, **options: Any) -> Any:
        _counts[check] = _counts.get(check, 0) + 1
        if _counts[check] == CALLS and (function := _original(annotated)) is not None:
            # What `typing.no_type_check` sets; jaxtyping looks at it in every call.
            function.__no_type_check__ = True
            _spared.append(function)
        return check(*arguments, **options)

    return counted


def _original(annotated: Callable[..., Any]) -> Any:
    """The function that stands in the source, under all its decorators; None for what no module holds by its name."""
    found: Any = sys.modules.get(annotated.__module__)
    for name in annotated.__qualname__.split("."):
        found = inspect.getattr_static(found, name, None)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    return inspect.unwrap(found) if inspect.isfunction(found) or hasattr(found, "__wrapped__") else None
