"""`import blocknerf`: light, complete, and the same for people and for type checkers."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import blocknerf


@pytest.mark.parametrize("name", sorted(blocknerf._NAMES))
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    value = getattr(blocknerf, name)
    assert value is getattr(importlib.import_module(blocknerf._NAMES[name]), name)
    assert value.__doc__
    assert name in dir(blocknerf)


def test_type_checkers_see_the_same_names() -> None:
    stub = Path(blocknerf.__file__).with_suffix(".pyi").read_text()
    named = re.findall(r"^from (\S+) import (\w+) as (\w+)$", stub, re.M)
    assert {name: module for module, name, alias in named if name == alias} == blocknerf._NAMES


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'blocknerf' has no attribute 'Photo'"):
        blocknerf.Photo  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, blocknerf; print([name for name in ('numpy', 'torch', 'numba', 'viser') if name in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"
