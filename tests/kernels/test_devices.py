"""Device selection: available and missing devices, error messages, and deterministic mode."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from blocknerf.errors import BackendError
from blocknerf.kernels.devices import device_name, resolve_device, set_deterministic


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two fake GPUs; returns the list of GPUs that were made current."""
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    return selected


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_cpu_without_a_gpu() -> None:
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    assert device_name(torch.device("cpu")) == "cpu"


def test_auto_is_the_gpu_if_there_is_one(gpus: list[int]) -> None:
    assert [str(resolve_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cpu",
    ]
    assert gpus == [0, 0, 1]  # kernels run on the current GPU


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
@pytest.mark.usefixtures("no_gpu")
def test_missing_gpu_raises(name: str) -> None:
    with pytest.raises(
        BackendError, match=f"--device {name}: (this PyTorch is a CPU-only build|PyTorch finds no GPU).*give auto"
    ):
        resolve_device(name)


@pytest.mark.usefixtures("gpus")
def test_gpu_number_out_of_range_raises() -> None:
    with pytest.raises(BackendError, match="--device cuda:2: there are 2 GPUs, from cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:one", "cpu:0", "meta", "cuda:-1"])
def test_invalid_device_name_raises(name: str) -> None:
    with pytest.raises(BackendError, match="not a device; give auto, cpu, cuda"):
        resolve_device(name)


@pytest.fixture
def deterministic() -> Iterator[None]:
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_deterministic_debug_mode(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.mark.usefixtures("deterministic")
def test_kernels_can_query_deterministic_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for wanted in (True, False):
        set_deterministic(wanted)
        assert torch.are_deterministic_algorithms_enabled() is wanted


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", ["default", "warn", "error"])
def test_deterministic_mode_overrides_the_previous_setting(
    monkeypatch: pytest.MonkeyPatch, before: str, wanted: bool
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode(before)
    set_deterministic(wanted)
    assert torch.get_deterministic_debug_mode() == (2 if wanted else 0)
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_nondeterministic_training_does_not_import_pytorchs_compiler() -> None:
    lines = [
        "import sys",
        "import pipelines.train",
        "from blocknerf.kernels.devices import set_deterministic",
        "set_deterministic(False)",
        "assert 'torch._inductor' not in sys.modules",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
