"""Options that a dataclass groups become flat options of a command."""

import inspect
from dataclasses import dataclass, field

import pytest

from pipelines.option_groups import flatten_groups


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner options."""

    depth: int = 3
    """How deep
    it goes."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer options."""

    name: str | None = None
    """A name."""
    inner: Inner = field(default_factory=Inner)


def job(path: str, *, outer: Outer = Outer(), fast: bool = False) -> tuple[str, Outer, bool]:
    """Do it.

    Args:
        path: A path.
        outer: Options of the group.
        fast: Hurry.
    """
    return path, outer, fast


def test_fields_take_the_place_of_the_group() -> None:
    flat = flatten_groups(job)
    assert list(inspect.signature(flat).parameters) == ["path", "name", "depth", "fast"]
    assert flat.__annotations__["depth"] is int
    assert flat.__doc__ is not None
    assert flat.__doc__.splitlines()[3:] == [
        "    path: A path.", "    name: A name.", "    depth: How deep it goes.", "    fast: Hurry.",
    ]  # fmt: skip


def test_the_job_gets_the_dataclasses() -> None:
    flat = flatten_groups(job)
    assert flat("x", name="n", depth=7, fast=True) == ("x", Outer(name="n", inner=Inner(depth=7)), True)


def test_a_job_without_groups_is_unchanged() -> None:
    assert flatten_groups(test_the_job_gets_the_dataclasses) is test_the_job_gets_the_dataclasses
    with pytest.raises(KeyError, match="depth"):
        flatten_groups(job)("x", name="n", fast=False)
