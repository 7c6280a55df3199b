"""The fused backend against the reference as on a GPU, but interpreted, with few rays."""

import pytest
import torch

from tests.kernels.interpreted import needs_triton
from tests.kernels.parity import cases


@needs_triton
@pytest.mark.parametrize("rays", [0, 3])
def test_fused_matches_reference(rays: int) -> None:
    for case in cases("cpu", rays):
        relative, absolute = case.tolerance
        settings = {"rtol": relative, "atol": absolute, "equal_nan": rays == 0}
        for value, truth in zip(case.fused, case.reference, strict=True):
            torch.testing.assert_close(value, truth, **settings, msg=f"{case.name}: {value} is not {truth}")
