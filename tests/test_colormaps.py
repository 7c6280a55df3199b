"""Color maps of depth, errors and block weights."""

import numpy as np

from blocknerf.colormaps import apply_turbo, block_color, colorize_blocks, depth_colors, error_colors


def test_depth_goes_from_red_to_blue() -> None:
    colors = depth_colors(np.array([[1.0, 2.0, 50.0, 1000.0]]), 1.0, 100.0)[0].astype(int)
    assert colors[0, 0] > colors[0, 2] + 80
    assert colors[2, 2] > colors[2, 0]
    assert (colors[3] == apply_turbo(np.zeros((1, 1)))[0, 0]).all()


def test_depth_of_one_distance_is_finite() -> None:
    assert depth_colors(np.full((2, 2), 3.0), 3.0, 3.0).shape == (2, 2, 3)
    assert depth_colors(np.array([[0.0, np.inf]]), 1.0, 10.0).shape == (1, 2, 3)


def test_larger_errors_are_brighter() -> None:
    colors = error_colors(np.array([[0.0, 0.05, 0.1, 0.2, 0.25, 9.0]]))[0].astype(int).sum(-1)
    assert colors[0] == 0
    assert (np.diff(colors[:5]) > 0).all()
    assert colors[5] == colors[4]


def test_turbo_is_clipped_and_defined_everywhere() -> None:
    colors = apply_turbo(np.array([[-1.0, 0.0, 1.0, 2.0, np.nan]]))[0]
    assert (colors[0] == colors[1]).all()
    assert (colors[2] == colors[3]).all()
    assert (colors[4] == colors[1]).all()


def test_neighboring_blocks_differ() -> None:
    colors = np.array([block_color(i) for i in range(24)])
    assert np.linalg.norm(np.diff(colors, axis=0), axis=-1).min() > 60


def test_block_weights_are_shown_as_tint_and_bar() -> None:
    gray = np.full((48, 100, 3), 100, np.uint8)
    single = colorize_blocks(gray, [(2, 1.0)])
    expected = 55 + 0.45 * np.array(block_color(2))
    assert np.abs(single[0, 0] - expected).max() <= 1
    assert (single[-1, 50] == block_color(2)).all()
    pair = colorize_blocks(gray, [(1, 0.25), (0, 0.75)])
    assert (pair[-1, 74] == block_color(0)).all()
    assert (pair[-1, 75] == block_color(1)).all()
