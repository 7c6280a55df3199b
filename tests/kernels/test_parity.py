"""The triton backend against the reference, interpreted, with few rays."""

import pytest
import torch

from tests.kernels.interpreted import needs_triton
from tests.kernels.parity import OPERATIONS, compare


@needs_triton
@pytest.mark.parametrize("rays", [0, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_triton_matches_reference(name: str, rays: int) -> None:
    case = compare(name, "cpu", rays)
    relative, absolute = case.tolerance
    for value, expected in zip(case.triton, case.reference, strict=True):
        torch.testing.assert_close(value, expected, rtol=relative, atol=absolute, equal_nan=rays == 0)
