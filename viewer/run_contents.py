"""Contents of a run that the viewer shows, read once for all clients."""

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from blocknerf.cameras import Cameras
from blocknerf.capture.capture import Capture
from blocknerf.capture.points import PointCloud
from blocknerf.city.appearance_presets import AppearancePreset
from blocknerf.city.appearance_track import AppearanceTrack
from blocknerf.city.extras import Extras
from blocknerf.city.manifest import City, read_city
from blocknerf.city.run_folder import RunFolder
from blocknerf.city.training_images import capture_with_refined_poses
from blocknerf.errors import RunError
from blocknerf.trajectory.capture_path import longest_path
from blocknerf.trajectory.flythrough import pinhole_focals

MAX_POINTS = 20_000
"""Points drawn at most."""
UNMATCHED_PREFIX = "unmatched: "
"""Prefix of options that show a segment with each block's own codes, not matched across blocks."""
ABSOLUTE_FOLDERS = re.compile(r"(?<![\w.<>/:])/(?:[^\s/:'\"<>]+/)+")
"""The folders of an absolute path, without its last part."""
MAX_SCENE_SIZE = 160.0
"""Largest extent of a city in scene units: viser sends depth as 24 bits, which end at 168."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContents:
    """City, images and appearance presets of a run."""

    run: RunFolder
    city: City
    capture: Capture
    """The images, with refined poses where the run has them."""
    cameras: Cameras
    """The cameras of the images."""
    path: tuple[int, ...]
    """Indices of the forward camera's images along the longest contiguous path."""
    exposure: float
    """Median exposure of the images, in the capture's unit; 1 if no image has one."""
    scene_scale: float
    """Scene units per world unit: 1, or less for a city larger than the range of the page's depth."""
    presets: Mapping[str, AppearancePreset]
    """Appearance presets that match the current blocks, by name, the default one first."""
    points: PointCloud | None
    """At most `MAX_POINTS` of the capture's sparse points; None if it has none, or they cannot be read."""
    faults: tuple[str, ...]
    """One line for each optional file that is broken or outdated."""

    @classmethod
    def of(cls, run: RunFolder, city: City | None = None, *, watch: bool = False) -> "RunContents":
        """Read a run. With `watch`, it may have no trained block yet.

        `city` is the run's city with other rendering settings, which become the panel's initial values.

        Raises:
            RunError: No block is trained, or a file is missing or broken.
            CaptureError: The capture file is missing or broken.
        """
        city = read_city(run.city) if city is None else city
        if not watch and not run.trained_blocks():
            raise RunError(f"{run.path}: no block is trained; run 'blocknerf train' first")
        capture = capture_with_refined_poses(run)
        extras = Extras.read(run, city, capture)
        cameras = capture.cameras()
        exposures = [frame.exposure for frame in capture.frames if frame.exposure is not None]
        return cls(
            run=run,
            city=city,
            capture=capture,
            cameras=cameras,
            path=longest_path(cameras, capture.frames).frames,
            exposure=median(exposures) if exposures else 1.0,
            scene_scale=_scene_scale(city, cameras),
            presets=extras.presets,
            points=None if extras.points is None else _subsample(extras.points),
            faults=extras.faults,
        )

    @property
    def preset_names(self) -> tuple[str, ...]:
        """Names of the appearance presets."""
        return tuple(self.presets)

    @property
    def appearance_options(self) -> tuple[str, ...]:
        """Names of all appearances to choose from: presets, then unmatched segments. The first is the default."""
        return (*self.preset_names, *(UNMATCHED_PREFIX + segment for segment in self.capture.segments))

    def appearance(self, name: str, end: str | None, exposure: float | None) -> AppearanceTrack:
        """Return the track of one appearance, or of a blend from one preset to another (`end`).

        Raises:
            RunError: There is no such appearance preset.
        """
        if name.startswith(UNMATCHED_PREFIX):
            return AppearanceTrack(presets=(), segment=name.removeprefix(UNMATCHED_PREFIX), exposure=exposure)
        names = [name] if end is None else [name, end]
        unknown = [preset for preset in names if preset not in self.presets]
        if unknown:
            choices = ", ".join(self.preset_names) or "none"
            raise RunError(f"view: no appearance preset {unknown[0]!r}; choose one of {choices}")
        return AppearanceTrack(presets=tuple(self.presets[preset] for preset in names), exposure=exposure)

    def image(self, index: int) -> Cameras:
        """Return the camera of an image, without its distortion."""
        camera = self.cameras[index]
        width, height = int(camera.width[0]), int(camera.height[0])
        focal = float(pinhole_focals(camera, width, height)[0])
        return Cameras.pinhole(camera.camera_to_world.float(), focal=focal, width=width, height=height)

    def nearest_image(self, position: tuple[float, float, float]) -> int:
        """Return the index of the image captured nearest to a position, in world units."""
        centers = self.cameras.centers.double()
        return int((centers - torch.tensor(position, dtype=torch.float64)).norm(dim=-1).argmin())

    def image_at_block(self, name: str) -> int:
        """Return the index of the image nearest to a block's center."""
        return self.nearest_image(self.city.block(name).origin)

    def redact_paths(self, error: Exception | str) -> str:
        """Return an error message without the server's folders, as clients may see it."""
        text = str(error)
        folders = (self.run.path, self.capture.image_dir, Path(tempfile.gettempdir()))
        paths = {path for folder in folders for path in (folder, folder.absolute(), folder.resolve()) if path.name}
        for path in sorted(paths, key=lambda path: -len(str(path))):  # longest first, since one may contain another
            text = text.replace(str(path), path.name)
        return ABSOLUTE_FOLDERS.sub("", text)

    def hidden(self, names: frozenset[str]) -> tuple[str, ...]:
        """Return the blocks to hide among some names; none if no block would be left."""
        hidden = tuple(block.name for block in self.city.blocks if block.name in names)
        return hidden if len(hidden) < len(self.city.blocks) else ()

    def with_overrides(self, hidden: frozenset[str], power: float, threshold: float) -> City:
        """Return the city without hidden blocks, with this power and visibility threshold.

        Hiding every block hides none.
        """
        excluded = set(self.hidden(hidden))
        if not excluded and (power, threshold) == (self.city.power, self.city.visibility_threshold):
            return self.city
        blocks = tuple(block for block in self.city.blocks if block.name not in excluded)
        return replace(self.city, blocks=blocks, power=power, visibility_threshold=threshold)


def _scene_scale(city: City, cameras: Cameras) -> float:
    origins = torch.tensor([block.origin for block in city.blocks])
    radii = torch.tensor([block.radius for block in city.blocks])[:, None]
    corners = torch.cat([origins - radii, origins + radii, cameras.centers.float()])
    extent = float((corners.amax(0) - corners.amin(0)).norm())
    return min(1.0, MAX_SCENE_SIZE / extent)


def _subsample(cloud: PointCloud) -> PointCloud:
    stride = max(1, math.ceil(len(cloud) / MAX_POINTS))
    colors = None if cloud.colors is None else cloud.colors[::stride].copy()
    return PointCloud(positions=cloud.positions[::stride].copy(), colors=colors)
