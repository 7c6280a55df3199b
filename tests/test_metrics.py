"""PSNR and SSIM against hand-computed values and slow reference implementations; jumps in a video."""

import math

import numpy as np
import pytest
import torch

from blocknerf.metrics import MAX_PSNR, frame_difference, masked_ssim, max_temporal_jump, psnr, ssim


def _pair(height: int, width: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(height, width, 3, generator=generator)
    return image, (image + noise * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)


def _slow_ssim(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Wang et al. 2004, equation 13, window by window."""
    half = (size - 1) / 2
    grid = np.arange(size) - half
    window = np.exp(-(grid[:, None] ** 2 + grid[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for y in range(first.shape[0] - size + 1):
        for x in range(first.shape[1] - size + 1):
            for channel in range(3):
                a = first[y : y + size, x : x + size, channel]
                b = second[y : y + size, x : x + size, channel]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                top = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
                values.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)))
    return float(np.mean(values))


@pytest.mark.parametrize(("height", "width", "size"), [(15, 18, 11), (11, 11, 11), (8, 20, 7), (1, 5, 1)])
def test_ssim_matches_its_definition(height: int, width: int, size: int) -> None:
    image, noisy = _pair(height, width, 0.2)
    expected = _slow_ssim(image.double().numpy(), noisy.double().numpy(), size)
    assert ssim(image, noisy) == pytest.approx(expected, abs=1e-9)
    assert expected < 0.95


def test_ssim_of_equal_images_is_one_and_decreases_with_noise() -> None:
    image, little_noise = _pair(24, 24, 0.05)
    _, much_noise = _pair(24, 24, 0.4)
    assert ssim(image, image) == pytest.approx(1.0)
    assert 1.0 > ssim(image, little_noise) > ssim(image, much_noise)
    assert ssim(image, little_noise) == pytest.approx(ssim(little_noise, image))


def test_masked_ssim_uses_the_windows_centered_on_the_mask() -> None:
    image, noisy = _pair(24, 30, 0.2)
    changed, mask = noisy.clone(), torch.zeros(24, 30, dtype=torch.bool)
    mask[:, :12] = True
    assert masked_ssim(image, noisy, torch.ones_like(mask)) == pytest.approx(ssim(image, noisy))
    changed[:, 17:] = 0.0  # The window reaches 5 pixels to the right of the mask.
    assert masked_ssim(image, changed, mask) == pytest.approx(masked_ssim(image, noisy, mask))
    assert masked_ssim(image, noisy, mask) == pytest.approx(ssim(image[:, :17], noisy[:, :17]))
    assert masked_ssim(image, noisy, torch.zeros_like(mask)) is None


def test_psnr_matches_hand_computed_values() -> None:
    black, gray = torch.zeros(4, 4, 3), torch.full((4, 4, 3), 0.5)
    assert psnr(black, gray) == pytest.approx(20 * math.log10(2.0))
    assert psnr(black, black) == MAX_PSNR


def test_masked_psnr_uses_only_the_mask() -> None:
    target = torch.zeros(4, 6, 3)
    image = torch.full((4, 6, 3), 0.1)
    image[:, 3:] = 1.0
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, :3] = True
    assert psnr(image, target, mask) == pytest.approx(20.0, abs=1e-5)
    assert psnr(image, target, ~mask) == pytest.approx(0.0, abs=1e-9)
    assert psnr(image, target, torch.ones_like(mask)) == pytest.approx(psnr(image, target))
    assert psnr(image, target, torch.zeros_like(mask)) is None


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
