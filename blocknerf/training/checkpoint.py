"""The state of an unfinished training, from which it goes on exactly as if it had never stopped."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from blocknerf.errors import CheckpointError, TrainingError
from blocknerf.files import parse_json
from blocknerf.tensor_file import TensorFile
from blocknerf.training.trainer import Trainer
from blocknerf.values import first_line, format_value

FILE = TensorFile(format="blocknerf.training/3", what="checkpoint", remedy="delete it to train from the start")


def save_state(trainer: Trainer, path: Path, *, seconds: float) -> None:
    """Write weights, poses, moments and the step atomically, alike from every device.

    Raises:
        TrainingError: A number is not finite; the file on disk, the last good one, is left as it is.
    """
    trainer.check()
    state = {f"field.{name}": value.detach() for name, value in trainer.field.named_parameters()} | trainer.state()
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise TrainingError(
                f"{name} is not finite after step {trainer.step}; the last good checkpoint is kept: "
                "check exposures and poses, or take another --seed"
            )
    metadata = {
        "step": str(trainer.step),
        "seconds": repr(seconds),
        "config": json.dumps(asdict(trainer.config)),
        "spec": json.dumps(trainer.field.spec.to_json()),
    }
    FILE.write(path, state, metadata)


def restore_state(trainer: Trainer, path: Path) -> float:
    """Put a trainer, on whatever device, back to where a checkpoint was written; gives the seconds it had trained.

    Raises:
        CheckpointError: The file is corrupt, of another format, or of a training with other settings.
    """
    try:
        metadata, state = FILE.read(path)
        _check(trainer, path, metadata)
        if odd := [name for name, value in state.items() if not torch.isfinite(value).all()]:
            raise ValueError(f"{odd[0]} is not finite")
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
    for key, mine in (("config", asdict(trainer.config)), ("spec", trainer.field.spec.to_json())):
        stored = parse_json(metadata[key])
        if not isinstance(stored, dict):
            raise ValueError(f"{key} is not an object")
        mine = json.loads(json.dumps(mine))
        if odd := [name for name in mine if stored.get(name) != mine[name]]:
            raise CheckpointError(
                f"{path}: was trained with {odd[0]} = {format_value(stored.get(odd[0]))}, now {format_value(mine[odd[0]])}; "
                "use the same settings, or delete it to train from the start"
            )
