"""What a run offers to look at, read once for all visitors."""

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

POINTS = 20_000
"""Most points that are drawn."""
UNMATCHED_PREFIX = "unmatched: "
"""Before the segments whose light every block shows as it learned it."""
FOLDERS = re.compile(r"(?<![\w.<>/:])/(?:[^\s/:'\"<>]+/)+")
"""Of a path that begins at the root, all but its last part."""
MAX_SCENE_SIZE = 160.0
"""Units of the page that a city may measure across: viser sends depth as 24 bits, the last of which stands at 168."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContents:
    """A run's city, photographs and lights."""

    run: RunFolder
    city: City
    capture: Capture
    """The photographs, from where the run has come to think that they were taken."""
    cameras: Cameras
    """Those that took them."""
    path: tuple[int, ...]
    """The photographs along the longest stretch, by the camera that looks ahead."""
    exposure: float | None
    """The middle one of the photographs, in the capture's unit; None where none says its own."""
    scene_scale: float
    """Units of the page to one of the world: 1, or less in a city so large that depth would not reach across it."""
    opened: Mapping[str, AppearancePreset]
    """Stored looks that fit the blocks as they are, by name, the default one first."""
    points: PointCloud | None
    """At most `POINTS` of the capture's; None where it has none that can be read."""
    faults: tuple[str, ...]
    """What is wrong with files of the run that it can be shown without, a line each."""

    @classmethod
    def of(cls, run: RunFolder, city: City | None = None, *, follow: bool = False) -> "RunContents":
        """Read a run; one that is followed may still be without any trained block.

        `city` is the run's with other settings of rendering, where panels begin with others than its own.

        Raises:
            RunError: no block is trained, or a file is missing or broken.
            CaptureError: its photographs' list is.
        """
        city = read_city(run.city) if city is None else city
        if not follow and not run.trained_blocks():
            raise RunError(f"{run.path}: no block is trained; run 'blocknerf train' first")
        capture = capture_with_refined_poses(run)
        extras = Extras.read(run, city, capture)
        cameras, known = capture.cameras(), [frame.exposure for frame in capture.frames if frame.exposure is not None]
        return cls(
            run=run,
            city=city,
            capture=capture,
            cameras=cameras,
            path=longest_path(cameras, capture.frames).frames,
            exposure=median(known) if known else None,
            scene_scale=_scale(city, cameras),
            opened=extras.presets,
            points=None if extras.points is None else _thinned(extras.points),
            faults=extras.faults,
        )

    @property
    def preset_names(self) -> tuple[str, ...]:
        """Names of the looks."""
        return tuple(self.opened)

    @property
    def presets(self) -> tuple[str, ...]:
        """Names of all lights that can be shown, the one to begin with first."""
        return (*self.preset_names, *(UNMATCHED_PREFIX + segment for segment in self.capture.segments))

    def appearance(self, name: str, into: str | None, exposure: float | None) -> AppearanceTrack:
        """A light, or two stored looks of which the first passes into the second.

        Raises:
            RunError: there is no such look.
        """
        if name.startswith(UNMATCHED_PREFIX):
            return AppearanceTrack(presets=(), segment=name.removeprefix(UNMATCHED_PREFIX), exposure=exposure)
        names = [name] if into is None else [name, into]
        unknown = [each for each in names if each not in self.opened]
        if unknown:
            raise RunError(
                f"view: there is no look {unknown[0]!r}; choose one of {', '.join(self.preset_names) or 'none'}"
            )
        return AppearanceTrack(presets=tuple(self.opened[each] for each in names), exposure=exposure)

    def image(self, index: int) -> Cameras:
        """The camera of a photograph, without its distortion."""
        camera = self.cameras[index]
        width, height = int(camera.width[0]), int(camera.height[0])
        focal = float(pinhole_focals(camera, width, height)[0])
        return Cameras.pinhole(camera.camera_to_world.float(), focal=focal, width=width, height=height)

    def nearest_image(self, position: tuple[float, float, float]) -> int:
        """The one that was taken nearest to a place."""
        centers = self.cameras.centers.double()
        return int((centers - torch.tensor(position, dtype=torch.float64)).norm(dim=-1).argmin())

    def image_at_block(self, name: str) -> int:
        """The photograph to begin at in a block: that nearest to its middle."""
        return self.nearest_image(self.city.block(name).origin)

    def redact_paths(self, error: Exception | str) -> str:
        """What a visitor is told of an error: no folder of the server's."""
        text = str(error)
        folders = (self.run.path, self.capture.image_dir, Path(tempfile.gettempdir()))
        paths = {path for folder in folders for path in (folder, folder.absolute(), folder.resolve()) if path.name}
        for path in sorted(paths, key=lambda path: -len(str(path))):  # one may lie in another
            text = text.replace(str(path), path.name)
        return FOLDERS.sub("", text)

    def hidden(self, names: frozenset[str]) -> tuple[str, ...]:
        """Those of some names that are blocks; none where no block would be left."""
        found = tuple(block.name for block in self.city.blocks if block.name in names)
        return found if len(found) < len(self.city.blocks) else ()

    def with_overrides(self, hidden: frozenset[str], power: float, threshold: float) -> City:
        """The city without some blocks, weighed and culled otherwise; with all where none would be left."""
        left_out = set(self.hidden(hidden))
        blocks = tuple(block for block in self.city.blocks if block.name not in left_out)
        return replace(self.city, blocks=blocks, power=power, visibility_threshold=threshold)


def _scale(city: City, cameras: Cameras) -> float:
    origins = torch.tensor([block.origin for block in city.blocks])
    radii = torch.tensor([block.radius for block in city.blocks])[:, None]
    corners = torch.cat([origins - radii, origins + radii, cameras.centers.float()])
    across = float((corners.amax(0) - corners.amin(0)).norm())
    return min(1.0, MAX_SCENE_SIZE / across)


def _thinned(cloud: PointCloud) -> PointCloud:
    every = max(1, math.ceil(len(cloud) / POINTS))
    colors = None if cloud.colors is None else cloud.colors[::every].copy()
    return PointCloud(positions=cloud.positions[::every].copy(), colors=colors)
