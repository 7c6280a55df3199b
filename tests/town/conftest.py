"""One town for all tests: compilation and lighting are slow."""

import pytest
import torch

from blocknerf.cameras import Cameras, look_at
from blocknerf.town.town import Town


@pytest.fixture(scope="session")
def town() -> Town:
    """The town of seed 0."""
    return Town.build(0)


@pytest.fixture(scope="session")
def view() -> Cameras:
    """A small camera on the main street that sees houses, trees, cars, the road and the sky."""
    pose = look_at(torch.tensor([[-20.0, -1.6, 1.9]]), torch.tensor([[10.0, 2.0, 3.0]]))
    return Cameras.pinhole(pose, focal=40.0, width=64, height=36)
