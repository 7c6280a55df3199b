"""That tests check the product's types and shapes: the first calls of a function in every test."""

from importlib.metadata import version

import pytest
import torch
from jaxtyping import TypeCheckError

from blocknerf.metrics import psnr
from tests import checks

IMAGE, FLAT = torch.rand(4, 6, 3), torch.rand(4, 6)


@pytest.fixture
def worn() -> None:
    """A function that was called often in this test."""
    for _ in range(checks.CALLS):
        psnr(IMAGE, IMAGE)


def test_a_wrong_shape_is_noticed() -> None:
    with pytest.raises(TypeCheckError, match="psnr"):
        psnr(IMAGE, FLAT)


@pytest.mark.skipif(
    tuple(map(int, version("jaxtyping").split(".")[:3])) < (0, 3, 11), reason="an older jaxtyping checks every call"
)
@pytest.mark.usefixtures("worn")
def test_what_is_called_often_is_let_alone() -> None:
    with pytest.raises(RuntimeError, match="must match"):  # PyTorch's own complaint
        psnr(IMAGE, FLAT)


@pytest.mark.usefixtures("worn")
def test_another_test_checks_again() -> None:
    checks.begin()
    with pytest.raises(TypeCheckError, match="psnr"):
        psnr(IMAGE, FLAT)
