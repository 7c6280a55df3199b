"""Devices by name: what is there, what is not and why, and the settings that results depend on."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.devices import device_name, resolve_device, set_deterministic


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs that are not there; gives the numbers of those that were made current."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("none")
def test_the_processor_is_taken_where_there_is_no_gpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    assert device_name(torch.device("cpu")) == "cpu"


def test_a_gpu_is_taken_where_there_is_one(gpus: list[int]) -> None:
    assert [str(resolve_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cpu",
    ]
    assert gpus == [0, 0, 1]  # kernels run on the current one


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
@pytest.mark.usefixtures("none")
def test_a_gpu_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match=f"--device {name}: (this PyTorch is built|PyTorch finds no GPU).*give auto"):
        resolve_device(name)


@pytest.mark.usefixtures("gpus")
def test_a_number_beyond_the_gpus_is_refused() -> None:
    with pytest.raises(BackendError, match="--device cuda:2: there are 2 GPUs, from cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:one", "cpu:0", "meta", "cuda:-1"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match="is no device; give auto, cpu, cuda"):
        resolve_device(name)


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_deterministic_debug_mode(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.mark.usefixtures("deterministic")
def test_kernels_can_ask_whether_order_is_to_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for wanted in (True, False):
        set_deterministic(wanted)
        assert torch.are_deterministic_algorithms_enabled() is wanted


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", ["default", "warn", "error"])
def test_the_order_is_as_wanted_whatever_it_was(monkeypatch: pytest.MonkeyPatch, before: str, wanted: bool) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode(before)
    set_deterministic(wanted)
    assert torch.get_deterministic_debug_mode() == (2 if wanted else 0)
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_a_training_in_any_order_imports_no_compiler_of_pytorch() -> None:
    lines = [
        "import sys",
        "import pipelines.train",
        "from blocknerf.kernels.devices import set_deterministic",
        "set_deterministic(False)",
        "assert 'torch._inductor' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
