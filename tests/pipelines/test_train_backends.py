"""What training tells of the kernels that ran, of their limits, and of steps that are not replayed."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from blocknerf.city.run_folder import RunFolder
from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.training.trainer import MOVING
from pipelines import block_training as job
from tests.fields.conftest import make_field


def test_the_record_of_backends_is_of_the_blocks_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_triton", lambda: (True, "Triton"))
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    gpu = torch.device("cuda")
    usual = job._backends(make_field(), gpu, moves=True)
    assert {name for name in OPERATIONS if usual[name]["backend"] != "triton"} == {"mlp"}
    assert {name for name in OPERATIONS if "steps that move poses" in usual[name]["reason"]} == set(MOVING)
    for choices, given in (({"features": 3}, "3 features"), ({"hidden": 24}, "color layers of 24")):
        own = job._backends(make_field(**choices), gpu, moves=False)
        for name in ("radiance", "marching"):
            assert own[name]["backend"] == "torch"
            assert f"; not 'triton': given {given}" in own[name]["reason"]
        assert own["hash_grid"]["backend"] == ("torch" if "features" in choices else "triton")


def test_steps_that_are_not_captured_on_a_gpu_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = object.__new__(job.BlockTraining)
    block.folder, block.name, block.device = RunFolder(tmp_path), "b000", torch.device("cuda")
    block.folder.block_folder("b000").mkdir(parents=True)
    block.state = tmp_path / "none"
    monkeypatch.setattr(job, "save_state", lambda *_, **__: None)
    for name in ("_loop", "_publish"):
        monkeypatch.setattr(job.BlockTraining, name, lambda *_: None)
    for replay, told in (((False, "of trim"), ["CUDA graphs: of trim"]), ((True, "all steps"), [])):
        trainer = SimpleNamespace(replay=replay, step=0)
        monkeypatch.setattr(job.BlockTraining, "_trainer", lambda _, made=trainer: made)
        block.seconds = 0.0
        block.run()
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("not from ")[1] for line in lines] == told
