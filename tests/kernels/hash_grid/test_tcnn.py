"""The adapter of tiny-cuda-nn: against the package itself where it is, and its arithmetic against a stand-in."""

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocknerf.kernels.backends import availability
from blocknerf.kernels.hash_grid import GridSpec, encode, level_gains, reference, tcnn
from tests.kernels.hash_grid.test_encoding import SPEC, awkward_points, make_table, relative_error


class StandIn(nn.Module):
    """What the package's module does, from what it is told of a grid alone."""

    def __init__(self, n_input_dims: int, encoding_config: dict[str, Any]) -> None:
        super().__init__()
        assert n_input_dims == 3
        levels, base = encoding_config["n_levels"], encoding_config["base_resolution"]
        self.spec = GridSpec(
            levels=levels,
            features=encoding_config["n_features_per_level"],
            log2_table=encoding_config["log2_hashmap_size"],
            base_resolution=base,
            finest_resolution=round(base * encoding_config["per_level_scale"] ** (levels - 1)),
        )
        self.params = nn.Parameter(torch.zeros(self.spec.entries * self.spec.features))

    def forward(self, points: Tensor) -> Tensor:
        table = self.params.view(-1, self.spec.features)
        return reference.encode(points, table, self.spec, None, level_gains(self.spec.levels, None)).half()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tinycudann")
    module.Encoding = StandIn
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    tcnn._encoding.cache_clear()


@pytest.mark.usefixtures("stand_in")
def test_it_weighs_levels_as_the_reference_does_and_its_gradients_reach_the_table() -> None:
    points, footprints = awkward_points(60), torch.linspace(0.0, 0.1, 60)
    results = []
    for own in (True, False):
        table = make_table(SPEC).requires_grad_()
        gains = level_gains(SPEC.levels, 2.5)
        if own:
            out = tcnn.encode(points, table, SPEC, footprints, torch.tensor(gains))
        else:
            out = reference.encode(points, table, SPEC, footprints, gains)
        results.append((out, torch.autograd.grad(out.square().sum(), table)[0]))
    for value, truth in zip(*results, strict=True):
        assert relative_error(value, truth) < 2e-3


@pytest.mark.usefixtures("stand_in")
def test_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "__init__", lambda self, **_: setattr(self, "params", torch.zeros(7)))
    with pytest.raises(ValueError, match="lays out 7 numbers"):
        tcnn.encode(awkward_points(3), make_table(SPEC), SPEC, None, None)


def test_where_it_is_missing_the_reason_says_so() -> None:
    if find_spec("tinycudann") is not None:
        pytest.skip("tiny-cuda-nn is installed here")
    verdict = next(each for each in availability("hash_grid", "cuda") if each.backend == "tcnn")
    assert not verdict.usable
    assert "not installed" in verdict.reason


def test_it_matches_the_reference_on_a_gpu() -> None:
    if find_spec("tinycudann") is None or not torch.cuda.is_available():
        pytest.skip("needs a GPU and tiny-cuda-nn, which is built from its sources")
    points, footprints, table = (each.cuda() for each in (awkward_points(500), torch.rand(500), make_table(SPEC)))
    value, truth = (encode(points, table, SPEC, footprints, backend) for backend in ("tcnn", "reference"))
    assert relative_error(value, truth) < 5e-3
