"""The tiny-cuda-nn adapter: with the package if it is installed, else with its published formulas."""

import math
import sys
from importlib.util import find_spec
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blocknerf.kernels.backends import availability
from blocknerf.kernels.hash_grid import encode, tcnn_impl, torch_impl
from tests.kernels.hash_grid.test_api import SPEC, awkward_points, make_table, relative_error


class FakeEncoding(nn.Module):
    """The package's grid by its published formulas, from the encoding config only."""

    def __init__(self, n_input_dims: int, encoding_config: dict[str, Any]) -> None:
        super().__init__()
        assert (n_input_dims, encoding_config["otype"], encoding_config["interpolation"]) == (3, "HashGrid", "Linear")
        self.features = encoding_config["n_features_per_level"]
        self.levels, first = [], 0
        for level in range(encoding_config["n_levels"]):
            scale = encoding_config["base_resolution"] * encoding_config["per_level_scale"] ** level - 1.0
            resolution = math.ceil(scale) + 1
            size = min(math.ceil(resolution**3 / 8) * 8, 2 ** encoding_config["log2_hashmap_size"])
            self.levels.append((np.float32(scale), resolution, first, size))
            first += size
        self.params = nn.Parameter(torch.zeros(first * self.features))

    def forward(self, points: Tensor) -> Tensor:
        table = self.params.view(-1, self.features)
        output_dim = []
        for scale, resolution, first, size in self.levels:
            positions = points.numpy() * scale + np.float32(0.5)
            cells = np.floor(positions)
            value = torch.zeros(len(points), self.features)
            for corner in product((0, 1), repeat=3):
                weights = np.prod(np.where(corner, positions - cells, 1.0 - (positions - cells)), axis=-1)
                entries = first + table_index((cells + corner).astype(np.uint32), resolution, size)
                value = value + torch.from_numpy(weights)[:, None] * table[torch.from_numpy(entries)]
            output_dim.append(value)
        return torch.cat(output_dim, 1).half()


def table_index(vertices: np.ndarray, resolution: int, size: int) -> np.ndarray:
    """Return indices of grid points within a level's part of the table; hashed if the level does not fit."""
    index, stride = np.zeros(len(vertices), np.uint32), 1
    for axis in range(3):
        if stride <= size:
            index += vertices[:, axis] * np.uint32(stride)
            stride *= resolution
    if stride > size:
        index = np.bitwise_xor.reduce(vertices * np.array([1, 2654435761, 805459861], np.uint32), axis=1)
    return index.astype(np.int64) % size


@pytest.fixture
def fake_tinycudann(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tinycudann")
    module.Encoding = FakeEncoding
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    tcnn_impl._encoding.cache_clear()


@pytest.mark.usefixtures("fake_tinycudann")
def test_layout_and_table_gradients_match_the_reference() -> None:
    points, footprints = awkward_points(400), torch.linspace(0.0, 0.1, 400)
    results = []
    for use_tcnn in (True, False):
        table = make_table(SPEC).requires_grad_()
        implementation = tcnn_impl if use_tcnn else torch_impl
        out = implementation.encode(points, table, SPEC, footprints, 2.5, None)
        results.append((out, torch.autograd.grad(out.square().sum(), table)[0]))
    for value, expected in zip(*results, strict=True):
        assert relative_error(value, expected) < 2e-3


@pytest.mark.usefixtures("fake_tinycudann")
def test_different_layout_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEncoding, "__init__", lambda self, **_: setattr(self, "params", torch.zeros(7)))
    with pytest.raises(ValueError, match="tiny-cuda-nn has 7 parameters"):
        tcnn_impl.encode(awkward_points(3), make_table(SPEC), SPEC, None, None, None)


def test_availability_reports_a_missing_package() -> None:
    if find_spec("tinycudann") is not None:
        pytest.skip("tiny-cuda-nn is installed here")
    verdict = next(record for record in availability("hash_grid", "cuda") if record.backend == "tcnn")
    assert not verdict.usable
    assert "not installed" in verdict.reason


def test_it_matches_the_reference_on_a_gpu() -> None:
    if find_spec("tinycudann") is None or not torch.cuda.is_available():
        pytest.skip("needs a GPU and tiny-cuda-nn, which is built from source")
    points, footprints, table = (record.cuda() for record in (awkward_points(500), torch.rand(500), make_table(SPEC)))
    value, expected = (encode(points, table, SPEC, footprints, backend) for backend in ("tcnn", "torch"))
    assert relative_error(value, expected) < 5e-3
