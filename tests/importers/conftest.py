"""The drive through the sample town that all writers of log layouts share."""

import pytest

from tests.importers.town_log import Moment, town_moments


@pytest.fixture(scope="session")
def moments() -> list[Moment]:
    """Three moments with three cameras, a LiDAR and moving cars."""
    return town_moments()
