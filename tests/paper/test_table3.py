"""The temporal score of table 3: changes of a video due to changing blend weights alone."""

from itertools import pairwise

import numpy as np
import pytest

from tests.benchmarks.paper.table3 import blend_flicker


def video_flicker(weights: np.ndarray) -> list[float]:
    """Return the flicker of a video of two static blocks with a difference of 0.4."""
    block_weights = np.stack([weights, 1.0 - weights], 1)[:, :, None, None]
    renderings = np.stack([np.full((1, 1, 3), 0.7), np.full((1, 1, 3), 0.3)])
    return [blend_flicker(a, b, renderings) for a, b in pairwise(block_weights)]


def test_smooth_transitions_jumps_and_flicker_differ() -> None:
    smooth = video_flicker(np.linspace(1.0, 0.0, 11))
    jump = video_flicker(np.array([1.0] * 5 + [0.0] * 6))
    flicker = video_flicker(np.linspace(1.0, 0.0, 11) + 0.1 * np.array([0, 1, -1, 1, -1, 1, -1, 1, -1, 1, 0]))
    assert sum(smooth) == pytest.approx(0.4)
    assert sum(jump) == pytest.approx(0.4)
    assert sum(flicker) > 1.5 * sum(smooth)
    rms = [float(np.sqrt(np.mean(np.square(changes)))) for changes in (smooth, flicker, jump)]
    assert rms[0] < rms[1] < rms[2]


def test_flicker_is_the_mean_difference_due_to_weights() -> None:
    equal, single = np.full((2, 1, 1), 0.5), np.array([1.0, 0.0]).reshape(2, 1, 1)
    renderings = np.stack([np.full((1, 1, 3), 0.75), np.full((1, 1, 3), 0.25)])
    assert blend_flicker(equal, single, renderings) == 0.25


def test_motion_within_blocks_is_not_flicker() -> None:
    weights, renderings = np.full((2, 3, 4), 0.5), np.random.default_rng(0).random((2, 3, 4, 3))
    assert blend_flicker(weights, weights, renderings) == 0.0
