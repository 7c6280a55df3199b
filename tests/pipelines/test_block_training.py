"""A block trains on its part of the capture as on the whole capture."""

import json
from pathlib import Path

import pytest
import torch

from blocknerf.capture.capture import Capture
from blocknerf.city.manifest import read_city
from blocknerf.city.training_images import block_capture
from blocknerf.errors import RunError
from blocknerf.partitioning.frame_assignment import read_assignment
from blocknerf.training.setup import make_trainer
from pipelines.train import train
from tests.pipelines.test_train import make_run, make_tiny


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny(monkeypatch.setattr)


def test_weights_are_equal(tmp_path: Path, balls_capture: Capture) -> None:
    run = make_run(tmp_path / "run", balls_capture)
    block, frames = read_city(run.city).block("b001"), read_assignment(run.frames("b001")).frames
    part, weights = block_capture(run, "b001"), []
    for capture, indices in ((balls_capture, frames), (part, range(len(part)))):
        trainer = make_trainer(capture, block, indices)
        for _ in range(3):
            trainer.train_step()
        weights.append(trainer.field.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_training_reads_no_capture_json(tmp_path: Path, balls_capture: Capture) -> None:
    run = make_run(tmp_path / "run", balls_capture)
    run.capture.unlink()
    assert train(run.path, block="b001", steps=2) == ["b001"]


@pytest.mark.parametrize(("key", "value"), [("name", "photo11.png"), ("index", 11)])
def test_an_edited_assignment_is_refused(tmp_path: Path, balls_capture: Capture, key: str, value: object) -> None:
    run = make_run(tmp_path / "run", balls_capture)
    record = json.loads(run.frames("b000").read_text(encoding="utf-8"))
    record["frames"][1][key] = value
    run.frames("b000").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunError, match=r"b000/frames\.json: frames\[1\]: .* the block trains on number 1"):
        train(run.path, block="b000", steps=2)
