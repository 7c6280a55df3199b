"""Save and restore an unfinished training; it resumes exactly as if it had not been interrupted."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import torch

from blocknerf.errors import CheckpointError, TrainingError
from blocknerf.tensor_file import TensorFile
from blocknerf.training.trainer import Trainer
from blocknerf.values import first_line, format_value

FILE = TensorFile(format="blocknerf.training/4", what="checkpoint", remedy="delete it to train from the start")


def save_state(trainer: Trainer, path: Path, *, seconds: float) -> None:
    """Write weights, poses, Adam moments and the step atomically. The file does not depend on the device.

    Raises:
        TrainingError: A value is not finite; the last good checkpoint on disk is kept.
    """
    trainer.check()
    state = {f"field.{name}": value.detach() for name, value in trainer.field.named_parameters()} | trainer.state()
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise TrainingError(
                f"{name} is not finite after step {trainer.step}; the last good checkpoint is kept: "
                "check exposures and poses, or use another --seed"
            )
    metadata = {
        "step": str(trainer.step),
        "seconds": repr(seconds),
        "config": json.dumps(asdict(trainer.config)),
        "spec": json.dumps(trainer.field.spec.to_json()),
    }
    FILE.write(path, state, metadata)


def restore_state(trainer: Trainer, path: Path) -> float:
    """Restore a trainer, on any device, from a checkpoint; return the seconds trained so far.

    Raises:
        CheckpointError: The file is corrupt, has another format, or was written with other settings.
    """
    try:
        metadata, state = FILE.read(path)
        _check(trainer, path, metadata)
        if invalid := [name for name, value in state.items() if not torch.isfinite(value).all()]:
            raise ValueError(f"{invalid[0]} is not finite")
        with torch.no_grad():
            for name, value in trainer.field.named_parameters():
                value.copy_(state[f"field.{name}"])
        trainer.restore(state)
        trainer.step = int(metadata["step"])
        return float(metadata["seconds"])
    except (FileNotFoundError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: corrupt checkpoint ({first_line(error)}); delete it to train from the start"
        ) from None


def _check(trainer: Trainer, path: Path, metadata: dict[str, str]) -> None:
    for key, current in (("config", asdict(trainer.config)), ("spec", trainer.field.spec.to_json())):
        stored = msgspec.json.decode(metadata[key], type=dict[str, Any])
        current = json.loads(json.dumps(current))
        if changed := [name for name in current if stored.get(name) != current[name]]:
            name = changed[0]
            raise CheckpointError(
                f"{path}: was trained with {name} = {format_value(stored.get(name))}, "
                f"now {format_value(current[name])}; use the same settings, or delete it to train from the start"
            )
