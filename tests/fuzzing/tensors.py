"""Fuzz targets for tensor files: fields, occupancy grids, appearance presets and checkpoints.

There are two variants of each: with the original digest, which reveals every mutation, and with the digest of the
mutated content, so that the content itself must be checked.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blocknerf.capture.points import PointCloud, write_ply
from blocknerf.capture.pose_segments import pose_segments
from blocknerf.city.appearance_presets import AppearancePreset, read_preset, write_preset
from blocknerf.city.cache import block_loader
from blocknerf.city.manifest import City
from blocknerf.city.run_folder import RunFolder
from blocknerf.fields.block_field import BlockField, OccupancyGrid
from blocknerf.fields.checkpoint import read_header, save_field
from blocknerf.fields.occupancy import save_occupancy
from blocknerf.fields.spec import FieldSpec
from blocknerf.images import write_image
from blocknerf.partitioning.block import Block
from blocknerf.partitioning.block_capture import CaptureCutter, read_block_capture, write_block_capture
from blocknerf.tensor_file import DIGEST, METADATA, _canonical, _digest
from blocknerf.training.checkpoint import restore_state, save_state
from blocknerf.training.config import TrainConfig
from blocknerf.training.pixel_sampler import PixelSampler
from blocknerf.training.setup import spec_for_block
from blocknerf.training.trainer import Trainer
from tests.fuzzing.mutations import mutated_bytes, mutated_json
from tests.fuzzing.targets import HEIGHT, WIDTH, Target, small_capture
from tests.tiny import FIELD


def field(folder: Path) -> Target:
    run, city = _run(folder)

    def read() -> object:
        header = read_header(run.field("b000"))
        return header.step, header.spec, _bytes(_load_field(run, city).state_dict())

    return _sealed_target(run.field("b000"), read)


def occupancy(folder: Path) -> Target:
    run, city = _run(folder)

    def read() -> object:
        grid = _load_field(run, city).occupancy
        assert grid is not None
        return grid.origin, grid.half_extent, _bytes({"cells": grid.binaries})

    return _sealed_target(run.occupancy("b000"), read)


def _run(folder: Path) -> tuple[RunFolder, City]:
    """Return a run with one trained block."""
    run, city = RunFolder(folder / "run"), City(blocks=(Block(name="b000", origin=(0.0, 0.0, 1.5), radius=8.0),))
    cells = torch.from_numpy(np.random.default_rng(0).random((8, 8, 8)) > 0.5)
    save_field(_field(), run.field("b000"), step=30, city=city.digest)
    save_occupancy(OccupancyGrid(cells, (0.0, 0.0, 1.5), 8.0), run.occupancy("b000"))
    return run, city


def _load_field(run: RunFolder, city: City) -> BlockField:
    loaded = block_loader(run, city)("b000").field
    assert isinstance(loaded, BlockField)
    return loaded


def _field() -> BlockField:
    torch.manual_seed(0)
    frames = tuple(f"{i}.png" for i in range(4))
    geometry = {"origin": (0.0, 0.0, 1.5), "half_extent": 8.0, "near": 0.1, "far": 50.0, "exposure_reference": 0.1}
    return BlockField(FieldSpec(frames=frames, **geometry, **FIELD))


def preset(folder: Path) -> Target:
    path = folder / "noon.safetensors"
    codes = {name: torch.linspace(-1.0, 1.0, 4) for name in ("b000", "b001")}
    digests = {"city": "a digest", "field_fingerprints": {name: f"digest of {name}" for name in codes}}
    write_preset(
        AppearancePreset(reference_block="b000", frame=None, segment="a", exposure=0.1, codes=codes, **digests), path
    )

    def read() -> object:
        restored = read_preset(path)
        return (
            restored.reference_block,
            restored.frame,
            restored.segment,
            restored.exposure,
            dict(restored.field_fingerprints),
            _bytes(restored.codes),
        )

    return _sealed_target(path, read)


def block_capture(folder: Path) -> Target:
    path, capture = folder / "run" / "frames.table", small_capture(folder)
    points = PointCloud(positions=np.ones((5, 3), np.float32), colors=np.full((5, 3), 90, np.uint8))
    write_ply(points, folder / "images" / "points.ply")
    block = Block(name="b000", origin=(0.0, 0.0, 1.5), radius=8.0)
    write_block_capture(CaptureCutter(capture).part(block, range(4)), path)

    def read() -> object:
        part = read_block_capture(path)
        cloud = part.depth_points()
        assert cloud is not None
        assert len(spec_for_block(part, block, range(len(part)), "draft").frames) == len(pose_segments(part, 2.0))
        return part, part.facts, cloud.positions.tobytes()

    return _sealed_target(path, read)


def checkpoint(folder: Path) -> Target:
    path, capture = folder / "state.safetensors", small_capture(folder)
    for frame in capture.frames:
        write_image(capture.image_dir / frame.image, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    sampler = PixelSampler(capture, range(4), downscale=1, budget_bytes=1 << 20, seed=0, use_depth=False)
    config = TrainConfig(steps=30, rays_per_step=8, pose_refinement=True)
    trainer = Trainer(_field(), sampler, torch.full((4,), 0.1), config)
    save_state(trainer, path, seconds=1.5)

    def read() -> object:
        seconds = restore_state(trainer, path)
        return seconds, trainer.step, _bytes(trainer.field.state_dict()), _bytes(trainer.state())

    return _sealed_target(path, read)


def _sealed_target(path: Path, read: Callable[[], object]) -> Target:
    content = path.read_bytes()
    header, body = _split(content)
    structure = mutated_json(header).map(lambda text: _join(text.encode("utf-8", "surrogatepass"), body))
    return Target(path=path, read=read, contents=structure | mutated_bytes(content), sealed=True)


def resealed(make: Callable[[Path], Target]) -> Callable[[Path], Target]:
    """Return the target with mutated headers and matching digests."""

    def make_resealed(folder: Path) -> Target:
        target = make(folder)
        header, body = _split(target.path.read_bytes())
        metadata = {key: value for key, value in header.pop(METADATA).items() if key != DIGEST}
        json_keys = {key for key, value in metadata.items() if _is_json(value)}
        decoded = {key: json.loads(value) if key in json_keys else value for key, value in metadata.items()}
        document = {"metadata": decoded, **header}
        contents = mutated_json(document).map(lambda text: _join(_with_digest(text, json_keys), body))
        return Target(path=target.path, read=target.read, contents=contents)

    return make_resealed


def _with_digest(text: str, json_keys: Collection[str]) -> bytes:
    """Return the header with its digest; values of `json_keys` are JSON strings. Invalid JSON is returned unchanged."""
    try:
        header = json.loads(text)
        items = header.pop("metadata").items()
        metadata = {key: json.dumps(value) if key in json_keys else value for key, value in items}
        header[METADATA] = metadata
        return _canonical({**header, METADATA: {**metadata, DIGEST: _digest(header)}})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return text.encode("utf-8", "surrogatepass")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _split(content: bytes) -> tuple[dict, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _join(header: bytes, body: bytes) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + body


def _bytes(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: value.detach().cpu().numpy().tobytes() for name, value in tensors.items()}


TENSORS = (block_capture, field, occupancy, preset, checkpoint)
