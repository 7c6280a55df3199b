"""A film's jumps are found, and a film that merely turns is not accused of one."""

import itertools

import numpy as np
import pytest

from blocknerf.metrics.change import hand_over_change, largest_jump, picture_change


def test_change_is_the_mean_absolute_difference_either_way() -> None:
    dark, light = np.zeros((2, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)
    light[0] = 255
    assert picture_change(dark, light) == pytest.approx(0.5)
    assert picture_change(light, dark) == pytest.approx(0.5)
    assert picture_change(light, light) == 0.0


def test_an_even_film_has_no_jump() -> None:
    assert largest_jump([0.02] * 50) == pytest.approx(1.0)
    assert largest_jump([]) == 1.0
    assert largest_jump([0.3]) == 1.0
    assert largest_jump([0.0] * 9) == 1.0


def test_a_turn_is_no_jump_but_a_cut_is() -> None:
    turn = 0.02 + 0.04 * np.sin(np.linspace(0, np.pi, 80)) ** 2
    assert largest_jump(turn.tolist()) < 1.5
    cut = turn.copy()
    cut[20] += 0.1
    assert largest_jump(cut.tolist()) > 3.0


def film_of_hands(weights: np.ndarray) -> list[float]:
    """What changing hands does to a film of two still blocks, one gray level 0.4 above the other."""
    shares = np.stack([weights, 1.0 - weights], 1)[:, :, None, None]
    pictures = np.stack([np.full((1, 1, 3), 0.7), np.full((1, 1, 3), 0.3)])
    return [hand_over_change(a, b, pictures) for a, b in itertools.pairwise(shares)]


def test_a_calm_hand_over_is_told_from_a_jump_and_from_flicker() -> None:
    calm = film_of_hands(np.linspace(1.0, 0.0, 11))
    jump = film_of_hands(np.array([1.0] * 5 + [0.0] * 6))
    flicker = film_of_hands(np.linspace(1.0, 0.0, 11) + 0.1 * np.array([0, 1, -1, 1, -1, 1, -1, 1, -1, 1, 0]))
    assert sum(calm) == pytest.approx(0.4)
    assert sum(jump) == pytest.approx(0.4)
    assert sum(flicker) > 1.5 * sum(calm)
    root = [float(np.sqrt(np.mean(np.square(each)))) for each in (calm, flicker, jump)]
    assert root[0] < root[1] < root[2]


def test_what_moves_within_the_blocks_is_not_a_hand_over() -> None:
    shares, pictures = np.full((2, 3, 4), 0.5), np.random.default_rng(0).random((2, 3, 4, 3))
    assert hand_over_change(shares, shares, pictures) == 0.0
