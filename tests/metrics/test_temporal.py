"""Temporal metrics: a cut is detected, a camera turn is not a jump."""

import numpy as np
import pytest

from blocknerf.metrics.temporal import frame_difference, max_temporal_jump


def test_frame_difference_is_the_symmetric_mean_absolute_difference() -> None:
    dark, light = np.zeros((2, 4, 3), np.uint8), np.zeros((2, 4, 3), np.uint8)
    light[0] = 255
    assert frame_difference(dark, light) == pytest.approx(0.5)
    assert frame_difference(light, dark) == pytest.approx(0.5)
    assert frame_difference(light, light) == 0.0


def test_a_constant_rate_of_change_has_no_jump() -> None:
    assert max_temporal_jump([0.02] * 50) == pytest.approx(1.0)
    assert max_temporal_jump([]) == 1.0
    assert max_temporal_jump([0.3]) == 1.0
    assert max_temporal_jump([0.0] * 9) == 1.0


def test_a_cut_is_a_jump_and_a_turn_is_not() -> None:
    turn = 0.02 + 0.04 * np.sin(np.linspace(0, np.pi, 80)) ** 2
    assert max_temporal_jump(turn.tolist()) < 1.5
    cut = turn.copy()
    cut[20] += 0.1
    assert max_temporal_jump(cut.tolist()) > 3.0
