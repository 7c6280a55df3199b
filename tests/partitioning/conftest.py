"""Small captures made of poses only: partition reads no images."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.cameras import look_at
from blocknerf.capture import Capture, Frame, Intrinsics, PointCloud, write_ply

INTRINSICS = Intrinsics(width=40, height=30, fx=25.0, fy=25.0, cx=20.0, cy=15.0)

Builder = Callable[..., Capture]


def _capture(
    eyes: torch.Tensor,
    targets: torch.Tensor,
    *,
    segments: list[str] | None = None,
    image_dir: Path = Path(),
    **overrides,
) -> Capture:
    up = (0.0, 1.0, 0.0) if bool((targets - eyes)[:, :2].norm(dim=-1).max() < 1e-3) else (0.0, 0.0, 1.0)
    poses = look_at(eyes.double(), targets.double(), up=up).tolist()
    frames = tuple(
        Frame(
            name=f"frame{i}",
            image=f"frame{i}.png",
            intrinsics=INTRINSICS,
            camera_to_world=tuple(tuple(row) for row in pose),
            segment=segments[i] if segments else "drive",
            camera="front",
        )
        for i, pose in enumerate(poses)
    )
    return Capture(image_dir=image_dir, frames=frames, **{"is_metric": True, "source": "test", **overrides})


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, which is faster for small arrays."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="session")
def drive() -> Builder:
    """Return a builder of captures with cameras on a path [n 2] (z = 2), each looking at the next position."""

    def build(path: torch.Tensor, **overrides) -> Capture:
        eyes = torch.cat([path, torch.full((len(path), 1), overrides.pop("height", 2.0))], -1)
        forward = torch.cat([eyes[1:] - eyes[:-1], (eyes[-1] - eyes[-2])[None]]) if len(path) > 1 else eyes + 1
        return _capture(eyes, eyes + forward, **overrides)

    return build


@pytest.fixture(scope="session")
def flight() -> Builder:
    """Return a builder of captures with cameras at positions [n 3], looking straight down."""

    def build(eyes: torch.Tensor, **overrides) -> Capture:
        return _capture(eyes, eyes - torch.tensor([0.0, 0.0, 1.0]), **overrides)

    return build


@pytest.fixture(scope="session")
def orbit() -> Builder:
    """Return a builder of captures with cameras at positions [n 3], all looking at one position."""

    def build(eyes: torch.Tensor, target: torch.Tensor, **overrides) -> Capture:
        return _capture(eyes, target.expand_as(eyes), **overrides)

    return build


@pytest.fixture
def with_points(tmp_path: Path) -> Callable[[np.ndarray], dict]:
    """Return a function that writes sparse points [n 3] and returns the capture fields that refer to them."""

    def write(positions: np.ndarray) -> dict:
        points = PointCloud(positions=positions.astype(np.float32), colors=None)
        write_ply(points, tmp_path / "points.ply")
        return {"sparse_points": "points.ply", "image_dir": tmp_path}

    return write
