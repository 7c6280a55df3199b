"""The fused backend as a parameter of tests, which Triton's interpreter runs on the processor."""

from importlib.util import find_spec
from typing import Any

import pytest

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton, which is there for Linux x86-64")


def fused(*values: Any) -> Any:
    """A set of parameters that begins with the fused backend, skipped where Triton is not installed."""
    return pytest.param("fused", *values, marks=needs_triton)
