"""Readers of tensor files, each with a valid file: fields, occupancy grids, appearance presets and checkpoints.

Each comes twice: with a digest that tells of any change, and with one that fits the changed content, where the content
itself has to be refused.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blocknerf.city.appearance_presets import AppearancePreset, read_preset, write_preset
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.block_field import BlockField
from blocknerf.fields.checkpoint import read_header, save_field
from blocknerf.fields.occupancy import OccupancyGrid, save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.images import write_image
from blocknerf.partition.block import Block
from blocknerf.tensor_file import DIGEST, METADATA, _canonical, _digest
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import TrainConfig
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.trainer import Trainer
from tests.fuzzing.mutations import changed_bytes, changed_json
from tests.fuzzing.subjects import HEIGHT, WIDTH, Subject, small_capture
from tests.tiny import FIELD


def field(folder: Path) -> Subject:
    run, city = _run(folder)

    def read() -> object:
        header = read_header(run.field("b000"))
        return header.step, header.spec, _bytes(_opened(run, city).state_dict())

    return _sealed(run.field("b000"), read)


def occupancy(folder: Path) -> Subject:
    run, city = _run(folder)

    def read() -> object:
        grid = _opened(run, city).occupancy
        assert grid is not None
        return grid.origin, grid.half_extent, _bytes({"cells": grid.binaries})

    return _sealed(run.occupancy("b000"), read)


def _run(folder: Path) -> tuple[RunFolder, City]:
    """A run with one trained block."""
    run, city = RunFolder(folder / "run"), City(blocks=(Block(name="b000", origin=(0.0, 0.0, 1.5), radius=8.0),))
    cells = torch.from_numpy(np.random.default_rng(0).random((8, 8, 8)) > 0.5)
    save_field(_field(), run.field("b000"), step=30, city=city.digest)
    save_occupancy(OccupancyGrid(cells, (0.0, 0.0, 1.5), 8.0), run.occupancy("b000"))
    return run, city


def _opened(run: RunFolder, city: City) -> BlockField:
    found = block_loader(run, city)("b000").field
    assert isinstance(found, BlockField)
    return found


def _field() -> BlockField:
    torch.manual_seed(0)
    frames = tuple(f"{i}.png" for i in range(4))
    placed = {"origin": (0.0, 0.0, 1.5), "half_extent": 8.0, "near": 0.1, "far": 50.0, "exposure_reference": 0.1}
    return BlockField(FieldSpec(frames=frames, **placed, **FIELD))


def preset(folder: Path) -> Subject:
    path = folder / "noon.safetensors"
    codes = {name: torch.linspace(-1.0, 1.0, 4) for name in ("b000", "b001")}
    facts = {"city": "a digest", "fields": {name: f"digest of {name}" for name in codes}}
    write_preset(
        AppearancePreset(reference_block="b000", frame=None, segment="drive", exposure=0.1, codes=codes, **facts), path
    )

    def read() -> object:
        found = read_preset(path)
        return (
            found.reference_block,
            found.frame,
            found.segment,
            found.exposure,
            dict(found.field_fingerprints),
            _bytes(found.codes),
        )

    return _sealed(path, read)


def checkpoint(folder: Path) -> Subject:
    path, capture = folder / "state.safetensors", small_capture(folder)
    for frame in capture.frames:
        write_image(capture.image_dir / frame.image, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    source = PixelSampler(capture, range(4), downscale=1, budget_bytes=1 << 20, seed=0, use_depth=False)
    config = TrainConfig(steps=30, rays_per_step=8, pose_refinement=True)
    trainer = Trainer(_field(), source, torch.full((4,), 0.1), config)
    save_state(trainer, path, seconds=1.5)

    def read() -> object:
        seconds = restore_state(trainer, path)
        return seconds, trainer.step, _bytes(trainer.field.state_dict()), _bytes(trainer.state())

    return _sealed(path, read)


def _sealed(path: Path, read: Callable[[], object]) -> Subject:
    content = path.read_bytes()
    header, body = _parts(content)
    structure = changed_json(header).map(lambda text: _joined(text.encode("utf-8", "surrogatepass"), body))
    return Subject(path=path, read=read, contents=structure | changed_bytes(content), sealed=True)


def resealed(make: Callable[[Path], Subject]) -> Callable[[Path], Subject]:
    """The same reader, given files whose digests fit what was changed in their headers."""

    def make_resealed(folder: Path) -> Subject:
        subject = make(folder)
        header, body = _parts(subject.path.read_bytes())
        facts = {key: value for key, value in header.pop(METADATA).items() if key != DIGEST}
        coded = {key for key, value in facts.items() if _is_json(value)}
        document = {"facts": {key: json.loads(facts[key]) if key in coded else facts[key] for key in facts}, **header}
        contents = changed_json(document).map(lambda text: _joined(_with_digest(text, coded), body))
        return Subject(path=subject.path, read=subject.read, contents=contents)

    return make_resealed


def _with_digest(text: str, coded: Collection[str]) -> bytes:
    """A header of these facts, of which some are JSON in JSON, and tensors; text that is no JSON stays as it is."""
    try:
        header = json.loads(text)
        facts = {key: json.dumps(value) if key in coded else value for key, value in header.pop("facts").items()}
        header[METADATA] = facts
        return _canonical({**header, METADATA: {**facts, DIGEST: _digest(header)}})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text.encode("utf-8", "surrogatepass")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parts(content: bytes) -> tuple[dict, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _joined(header: bytes, body: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def _bytes(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: value.detach().cpu().numpy().tobytes() for name, value in tensors.items()}


TENSORS = (field, occupancy, preset, checkpoint)
