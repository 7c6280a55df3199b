"""Thinning of paths, against a walk from position to position."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocknerf.partitioning.path_thinning import spaced_positions


def walk(positions: np.ndarray, spacing: float) -> list[int]:
    kept: list[int] = []
    for i, position in enumerate(positions):
        if not kept or math.dist(position, positions[kept[-1]]) >= spacing:
            kept.append(i)
    return kept


@given(st.lists(st.sampled_from([0.0, 0.01, 0.3, 0.7, 1.5]), max_size=150))
def test_kept_positions_are_those_of_a_walk(steps: list[float]) -> None:
    positions = np.cumsum(steps)[:, None] if steps else np.zeros((0, 1))
    assert spaced_positions(positions, 1.0) == walk(positions, 1.0)


@pytest.mark.parametrize("turn", [0.1, 1.0, 2.5])
def test_a_path_that_returns_is_compared_with_the_last_kept_position(turn: float) -> None:
    headings = turn * np.arange(500)
    path = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], -1), 0)
    assert spaced_positions(path, 1.9) == walk(path, 1.9)
