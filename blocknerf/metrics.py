"""PSNR and SSIM between a rendering and an image, and the temporal consistency of a video."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import conv2d

MAX_PSNR = 100.0
"""The PSNR of equal images; an error of a hundredth of a gray level at every pixel is 88 dB."""

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the SSIM window, in pixels (Wang et al. 2004)."""

Image = Float[Tensor, "height width 3"]


def psnr(image: Image, target: Image, mask: Bool[Tensor, "height width"] | None = None) -> float | None:
    """Return the peak signal-to-noise ratio in dB of display values 0..1, over all pixels or those of a mask.

    None if the mask is empty.

    >>> round(psnr(torch.full((2, 2, 3), 0.6), torch.full((2, 2, 3), 0.5)), 3)
    20.0
    """
    squared = (image.double() - target.double()).square()
    if mask is not None:
        squared = squared[mask]
    return mean_squared_to_psnr(float(squared.mean())) if squared.numel() else None


def mean_squared_to_psnr(error: float) -> float:
    """Convert a mean squared error of values 0..1 to dB, at most `MAX_PSNR`.

    >>> mean_squared_to_psnr(0.01), mean_squared_to_psnr(0.0)
    (20.0, 100.0)
    """
    return MAX_PSNR if error <= 0.0 else min(-10.0 * math.log10(error), MAX_PSNR)


def ssim(image: Image, target: Image) -> float:
    """Return the structural similarity (Wang et al. 2004): 11x11 Gaussian of sigma 1.5, mean over channels.

    The window stays inside the image, as in the reference implementation. For an image smaller than the window, the
    largest odd window that fits is used.
    """
    return float(_ssim_map(image, target).mean())


def masked_ssim(image: Image, target: Image, mask: Bool[Tensor, "height width"]) -> float | None:
    """Return the structural similarity, mean over the windows with their center in the mask; None if there are none."""
    values = _ssim_map(image, target)
    top, left = ((full - inner) // 2 for full, inner in zip(mask.shape, values.shape[-2:], strict=True))
    values = values[..., mask[top : top + values.shape[-2], left : left + values.shape[-1]]]
    return float(values.mean()) if values.numel() else None


def _ssim_map(image: Image, target: Image) -> Float[Tensor, "3 1 rows columns"]:
    size = min(WINDOW, *(side - 1 + side % 2 for side in image.shape[:2]))
    window = _gaussian(size)
    first, second = (pixels.double().permute(2, 0, 1)[:, None] for pixels in (image, target))
    mean1, mean2 = _filter(first, window), _filter(second, window)
    variance1 = _filter(first * first, window) - mean1**2
    variance2 = _filter(second * second, window) - mean2**2
    covariance = _filter(first * second, window) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    structure = (2 * covariance + c2) / (variance1 + variance2 + c2)
    return luminance * structure


def _gaussian(size: int) -> Float[Tensor, "size"]:
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = (-(offsets**2) / (2 * SIGMA**2)).exp()
    return weights / weights.sum()


def _filter(
    channels: Float[Tensor, "channels 1 height width"], window: Float[Tensor, "size"]
) -> Float[Tensor, "channels 1 rows columns"]:
    return conv2d(conv2d(channels, window[None, None, :, None]), window[None, None, None, :])


def frame_difference(before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]) -> float:
    """Return the mean absolute difference of two frames in display values 0..1.

    >>> frame_difference(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8))
    0.2
    """
    return float(np.abs(before.astype(np.int16) - after).mean() / 255.0)


def max_temporal_jump(differences: Sequence[float]) -> float:
    """Return the largest difference between consecutive frames, relative to its neighborhood.

    Each difference is divided by the median of up to 8 neighbors on either side, so that a camera turn does not count
    as a jump. The result is 1 for a video that changes evenly or not at all.

    >>> max_temporal_jump([0.1, 0.1, 0.1, 0.3, 0.1, 0.1])
    3.0
    """
    values = np.asarray(differences, dtype=np.float64)
    jumps = [values[i] / median for i in range(len(values)) if (median := _neighborhood_median(values, i)) > 0.0]
    return round(float(max(jumps, default=1.0)), 9)


def _neighborhood_median(values: np.ndarray, index: int) -> float:
    neighbors = np.concatenate([values[max(0, index - 8) : index], values[index + 1 : index + 9]])
    return float(np.median(neighbors)) if neighbors.size else 0.0
