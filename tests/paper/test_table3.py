"""Table 3's measure of calm: what changing weights alone do to a film."""

from itertools import pairwise

import numpy as np
import pytest

from tests.benchmarks.paper.table3 import hand_over_change


def film_of_hands(weights: np.ndarray) -> list[float]:
    """What changing hands does to a film of two still blocks, one gray level 0.4 above the other."""
    shares = np.stack([weights, 1.0 - weights], 1)[:, :, None, None]
    pictures = np.stack([np.full((1, 1, 3), 0.7), np.full((1, 1, 3), 0.3)])
    return [hand_over_change(a, b, pictures) for a, b in pairwise(shares)]


def test_a_calm_hand_over_is_told_from_a_jump_and_from_flicker() -> None:
    calm = film_of_hands(np.linspace(1.0, 0.0, 11))
    jump = film_of_hands(np.array([1.0] * 5 + [0.0] * 6))
    flicker = film_of_hands(np.linspace(1.0, 0.0, 11) + 0.1 * np.array([0, 1, -1, 1, -1, 1, -1, 1, -1, 1, 0]))
    assert sum(calm) == pytest.approx(0.4)
    assert sum(jump) == pytest.approx(0.4)
    assert sum(flicker) > 1.5 * sum(calm)
    root = [float(np.sqrt(np.mean(np.square(each)))) for each in (calm, flicker, jump)]
    assert root[0] < root[1] < root[2]


def test_it_is_the_mean_difference_that_the_weights_make() -> None:
    half, whole = np.full((2, 1, 1), 0.5), np.array([1.0, 0.0]).reshape(2, 1, 1)
    pictures = np.stack([np.full((1, 1, 3), 0.75), np.full((1, 1, 3), 0.25)])
    assert hand_over_change(half, whole, pictures) == 0.25


def test_what_moves_within_the_blocks_is_not_a_hand_over() -> None:
    shares, pictures = np.full((2, 3, 4), 0.5), np.random.default_rng(0).random((2, 3, 4, 3))
    assert hand_over_change(shares, shares, pictures) == 0.0
