"""Color maps for depth, errors and block weights."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

BLOCK_COLORS = (
    (31, 119, 180), (214, 96, 28), (44, 140, 60), (148, 80, 178), (190, 44, 62), (22, 150, 160), (150, 110, 20),
)  # fmt: skip
"""Distinct on paper and screen. They repeat, but neighbors along a route still differ."""

_ERROR_STOPS = (
    (0.0, (0, 0, 0)),
    (0.25, (73, 16, 105)),
    (0.5, (190, 55, 84)),
    (0.75, (249, 142, 9)),
    (1.0, (252, 255, 200)),
)


def apply_turbo(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """Apply the Turbo colormap (Mikhailov 2019): 0 dark blue, 0.5 green, 1 dark red; clips other values."""
    import cv2

    levels = (np.clip(np.nan_to_num(values), 0.0, 1.0) * 255.0).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1])


def depth_colors(
    depth: Float[np.ndarray, "height width"], near: float, far: float
) -> UInt8[np.ndarray, "height width 3"]:
    """Color depth from near (red) to far (blue), linear in inverse depth, which resolves near surfaces best."""
    inverse_near, inverse_far = 1.0 / max(near, 1e-9), 1.0 / max(far, near * (1 + 1e-6), 2e-9)
    inverse = 1.0 / np.maximum(depth, 1e-9)
    return apply_turbo((inverse - inverse_far) / (inverse_near - inverse_far))


def error_colors(error: Float[np.ndarray, "height width"], full: float = 0.25) -> UInt8[np.ndarray, "height width 3"]:
    """Color absolute errors of display values: zero is black, `full` and above nearly white."""
    x = np.clip(error / full, 0.0, 1.0)
    positions = [position for position, _ in _ERROR_STOPS]
    channels = [np.interp(x, positions, [color[c] for _, color in _ERROR_STOPS]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def colorize_blocks(
    image: UInt8[np.ndarray, "height width 3"], block_weights: Sequence[tuple[int, float]]
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the image in gray, tinted by the colors of its blocks, with a bar of their weights at the bottom.

    `block_weights` holds the index of each block in the city and its blend weight; weights sum to one.
    """
    block_weights = sorted(block_weights)
    colors = np.array([block_color(index) for index, _ in block_weights], dtype=np.float64)
    weights = np.array([weight for _, weight in block_weights])
    gray = image.astype(np.float64).mean(-1, keepdims=True)
    tinted = (0.55 * gray + 0.45 * (weights @ colors)).round().astype(np.uint8)
    bar = max(2, image.shape[0] // 24)
    position = (np.arange(image.shape[1]) + 0.5) / image.shape[1] * weights.sum()
    blocks = np.minimum(np.searchsorted(np.cumsum(weights), position), len(weights) - 1)
    tinted[-bar:] = colors[blocks].astype(np.uint8)
    return tinted


def block_color(index: int) -> tuple[int, int, int]:
    """Return the color of a block from its index in the city; maps, videos and reports share it.

    >>> block_color(0), block_color(7)
    ((31, 119, 180), (31, 119, 180))
    """
    return BLOCK_COLORS[index % len(BLOCK_COLORS)]
