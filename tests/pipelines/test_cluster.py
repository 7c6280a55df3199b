"""Training on a Ray cluster: the task of one block, bad options, and a whole training on a cluster of this machine."""

import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from blocknerf.capture.capture import Capture
from blocknerf.city.run_folder import RunFolder
from blocknerf.errors import OptionError, TrainingError
from blocknerf.locks import LockedError, exclusive
from pipelines import cluster
from pipelines.cluster import ClusterOptions, _check_reachable, _share, _train_block
from pipelines.train import train
from tests.pipelines.test_train import make_run

OPTIONS: dict[str, Any] = {"steps": 4, "threads": 1, "overrides": ("field.num_levels=4", "training.rays_per_step=64")}


@pytest.fixture
def run(tmp_path: Path, balls_capture: Capture) -> RunFolder:
    return make_run(tmp_path / "run", balls_capture)


def namespace() -> list[str]:
    """Return the start of a command in a network namespace with loopback alone, since Ray listens everywhere."""
    command = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine offers no network namespaces (unshare --net), and Ray listens on all interfaces")
    return [*command, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def run_command(*arguments: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "pipelines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_blocks_train_on_a_cluster_as_on_this_machine(run: RunFolder, tmp_path: Path) -> None:
    prefix = namespace()
    shutil.copytree(run.path, tmp_path / "local")
    local = RunFolder(tmp_path / "local")
    sets = [part for override in OPTIONS["overrides"] for part in ("--set", override)]
    options = ["--steps", str(OPTIONS["steps"]), *sets]
    outcome = run_command("train", str(run.path), "--engine", "ray", "--cpus-per-block", "1", *options, prefix=prefix)
    assert outcome.returncode == 0, outcome.stderr
    assert "training 2 blocks on a Ray cluster of 1 machine, each with 1 CPU core" in outcome.stdout
    assert "trained, 2 of 2" in outcome.stdout
    train(local.path, jobs=1, **OPTIONS)
    for name in ("b000", "b001"):
        assert run.field(name).read_bytes() == local.field(name).read_bytes()
        assert run.occupancy(name).read_bytes() == local.occupancy(name).read_bytes()
        assert not run.training_lock(name).exists()


def test_a_task_trains_its_block(run: RunFolder) -> None:
    assert _train_block(train, str(run.path), "b001", OPTIONS) is None
    assert run.trained_blocks() == ("b001",)


def test_a_task_returns_an_error_that_would_come_again(run: RunFolder, tmp_path: Path) -> None:
    assert "no block 'b009' among its 2" in str(_train_block(train, str(run.path), "b009", OPTIONS))
    failure = str(_train_block(train, str(tmp_path / "elsewhere"), "b000", OPTIONS))
    assert failure.startswith(f"{tmp_path}/elsewhere: is not on machine {platform.node()}; all machines must share")


def test_a_task_raises_an_error_that_another_attempt_may_not_see(run: RunFolder) -> None:
    def fail(path: Path, **options: Any) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        _train_block(fail, str(run.path), "b000", OPTIONS)


def test_a_task_waits_for_the_process_of_an_earlier_attempt(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.01)
    calls: list[str] = []
    with exclusive(run.training_lock("b000"), "training"):
        waiting = threading.Thread(
            target=lambda: _train_block(lambda path, block, **_: calls.append(block), str(run.path), "b000", {})
        )
        waiting.start()
        waiting.join(0.3)
        assert (waiting.is_alive(), calls) == (True, [])
    waiting.join(10.0)
    assert calls == ["b000"]


def test_a_task_ends_its_wait_so_that_ray_tries_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LEASE_SECONDS", 0.0)
    with exclusive(run.training_lock("b000"), "training"), pytest.raises(LockedError):
        _train_block(train, str(run.path), "b000", OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "auto"}, "--address needs --engine ray"),
        ({"gpus_per_block": 1.0}, "--gpus-per-block needs --engine ray"),
        ({"engine": "ray", "cpus_per_block": 0}, "--cpus-per-block"),
        ({"engine": "ray", "gpus_per_block": -1.0}, "--gpus-per-block"),
    ],
)
def test_bad_options_are_refused_before_any_work(run: RunFolder, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        train(run.path, cluster=ClusterOptions(**options))


@pytest.mark.parametrize(("option", "value"), [("jobs", 2), ("view", True)])
def test_options_of_the_local_engine_are_refused(run: RunFolder, option: str, value: object) -> None:
    with pytest.raises(TrainingError, match=f"--{option} cannot be combined with --engine ray"):
        train(run.path, cluster=ClusterOptions(engine="ray"), **{option: value})


def test_a_missing_package_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match=r"install it with: pip install 'blocknerf\[cluster\]'"):
        train(run.path, cluster=ClusterOptions(engine="ray"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "x:y"])
def test_an_address_without_a_cluster_is_refused_soon(address: str) -> None:
    with pytest.raises((OSError, ValueError)):
        _check_reachable(address)


def machine(cpus: float, gpus: float = 0.0) -> dict[str, Any]:
    return {"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}


def test_a_block_takes_a_gpu_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    ray = ClusterOptions(engine="ray")
    assert _share(ray, [machine(1)]) == (1, 0.0)
    assert _share(ray, [machine(8), machine(16, 4)]) == (2, 1.0)
    assert _share(ClusterOptions(engine="ray", cpus_per_block=4, gpus_per_block=0.5), [machine(8, 1)]) == (4, 0.5)
    assert capsys.readouterr().out == ""
    _share(ClusterOptions(engine="ray", cpus_per_block=32), [machine(8), machine(16)])
    assert "warning: no machine of the cluster has 32 CPU cores yet" in capsys.readouterr().out


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_failure_does_not_stop_the_others(run: RunFolder, jobs: int, capsys: pytest.CaptureFixture[str]) -> None:
    (run.block_folder("b000") / "checkpoint").mkdir()
    (run.checkpoint("b000") / "state.safetensors").write_bytes(b"broken")
    with pytest.raises(TrainingError, match=r"state\.safetensors.*; all other blocks are trained"):
        train(run.path, jobs=jobs, keep_going=True, steps=2)
    assert run.trained_blocks() == ("b001",)
    assert "failed: " in capsys.readouterr().out
