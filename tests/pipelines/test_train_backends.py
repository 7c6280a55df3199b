"""What training reports about kernel backends, their limits, and steps outside CUDA graphs."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from blocknerf.city.run_folder import RunFolder
from blocknerf.kernels import backends
from blocknerf.kernels.backends import OPERATIONS
from blocknerf.training.trainer import POSE_STEP_OPS
from pipelines import block_training as job
from tests.fields.conftest import make_field


def test_the_recorded_backends_depend_on_the_shape_of_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_triton", lambda: (True, "Triton"))
    monkeypatch.setattr(backends, "TRITON_INTERPRET", False)
    gpu = torch.device("cuda")
    default = job._backends(make_field(), gpu, updates_poses=True)
    assert {name for name in OPERATIONS if default[name]["backend"] != "triton"} == {"mlp"}
    assert {name for name in OPERATIONS if "steps that update poses" in default[name]["reason"]} == set(POSE_STEP_OPS)
    for choices, reason in (
        ({"features_per_level": 3}, "3 features"),
        ({"hidden_dim": 24}, "color layers of width 24"),
    ):
        result = job._backends(make_field(**choices), gpu, updates_poses=False)
        for name in ("radiance", "marching"):
            assert result[name]["backend"] == "torch"
            assert f"; not 'triton': given {reason}" in result[name]["reason"]
        assert result["hash_grid"]["backend"] == ("torch" if "features_per_level" in choices else "triton")


def test_steps_outside_cuda_graphs_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = object.__new__(job.BlockTraining)
    block.folder, block.name, block.device = RunFolder(tmp_path), "b000", torch.device("cuda")
    block.folder.block_folder("b000").mkdir(parents=True)
    block.state = tmp_path / "none"
    monkeypatch.setattr(job, "save_state", lambda *_, **__: None)
    for name in ("_loop", "_publish"):
        monkeypatch.setattr(job.BlockTraining, name, lambda *_: None)
    for replay, expected in (((False, "trim"), ["CUDA graphs are not used: trim"]), ((True, "all steps"), [])):
        trainer = SimpleNamespace(replay=replay, step=0)
        monkeypatch.setattr(job.BlockTraining, "_trainer", lambda _, trainer=trainer: trainer)
        block.seconds = 0.0
        block.run()
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("warning: ")[1] for line in lines] == expected
