"""A trained run opened for use from Python: its capture, its city and a renderer."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from blocknerf.capture.capture import Capture
from blocknerf.city.manifest import City, read_city
from blocknerf.city.renderer import CityRenderer
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_refined_poses
from blocknerf.errors import RunError


@dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run folder. Blocks load when a camera comes near them."""

    folder: RunFolder
    """Paths of every file of the run."""
    capture: Capture
    """Images and cameras, with refined poses where the blocks refined them."""
    city: City
    """Blocks and rendering settings."""
    device: torch.device

    @cached_property
    def renderer(self) -> CityRenderer:
        """Renders any camera: `run.renderer.render(cameras, index).color` is `[height, width, 3]` in 0..1."""
        return CityRenderer(self.folder, city=self.city, device=self.device)


def load_run(path: str | Path, *, device: torch.device | str = "cpu") -> Run:
    """Open a run folder.

    Args:
        path: Run folder, as written by `blocknerf run`.
        device: Where to render, e.g. "cuda".

    Raises:
        RunError: the folder holds no run, or its city.json is broken.
        CaptureError: its capture.json or its poses are broken.
    """
    folder = RunFolder(Path(path))
    if not folder.city.is_file():
        raise RunError(f"{folder.path}: holds no run (city.json is missing); create one with 'blocknerf run'")
    capture, city = capture_with_refined_poses(folder), read_city(folder.city)
    return Run(folder=folder, capture=capture, city=city, device=torch.device(device))
