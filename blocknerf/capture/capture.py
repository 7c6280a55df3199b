"""A capture: posed images of one place, with optional point clouds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8

from blocknerf.cameras import Cameras
from blocknerf.capture.capture_part import CaptureFacts, CapturePart
from blocknerf.capture.frame import Frame, Pose, check_relative
from blocknerf.capture.frame_table import FrameTable
from blocknerf.capture.lidar import LidarSweep, check_sweep, nearest_sweep, read_sweep
from blocknerf.capture.points import PointCloud, check_ply, read_ply
from blocknerf.errors import CaptureError
from blocknerf.images import check_size, image_size, read_image, read_mask, read_mask_coverage
from blocknerf.similarity import IDENTITY, Rows
from blocknerf.values import finite, one_case


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Posed images of one place; each image is read from disk on request.

    World: right-handed, z up, meters if `is_metric`, else the capture's own unit.

    Raises:
        CaptureError: there are no frames, or two frames share a name or an image.
    """

    image_dir: Path
    """Folder of the images; the paths of frames and points are relative to it."""
    mask_dir: Path | None = None
    """Folder of the masks and sky masks, if an import made them elsewhere; None: `image_dir`."""
    points_dir: Path | None = None
    """Folder of the point files, if an import made them elsewhere; None: `image_dir`."""
    frames: Sequence[Frame]
    """A tuple, or a `FrameTable`."""
    sparse_points: str | None = None
    """PLY of sparse points, for example from structure from motion."""
    lidar_points: str | None = None
    """PLY of lidar points."""
    lidar_sweeps: tuple[LidarSweep, ...] = ()
    """LiDAR sweeps with their times, in the order of time."""
    source_to_world: Rows = IDENTITY
    """From the coordinates of `sparse_points` and `lidar_points` to the world; poses are in the world already."""
    raw_poses: bool = False
    """Whether poses come from sensors alone (GPS, IMU), without alignment to the images."""
    notes: tuple[str, ...] = ()
    """What the import found and decided, one line each."""
    applied_transform: Pose | None = None
    """nerfstudio's record of how it turned the poses; kept for exports."""
    applied_scale: float | None = None
    """nerfstudio's record of how it scaled the poses; kept for exports."""
    is_metric: bool
    """Whether lengths are in meters."""
    geo_origin: tuple[float, float, float] | None = None
    """Latitude, longitude (degrees) and altitude (meters) of the world's origin."""
    source: str
    """Origin of the capture, as free text or a path."""
    part: CapturePart | None = field(default=None, compare=False, repr=False)
    """For the part of a capture that trains a block: what it keeps of the whole."""

    def __post_init__(self) -> None:
        if not self.frames:
            raise CaptureError("the capture has no frames; give at least one posed image")
        for kind in ("name", "image") if not isinstance(self.frames, FrameTable) else ():
            duplicate = _first_repeated([getattr(frame, kind) for frame in self.frames])
            if duplicate is not None:
                raise CaptureError(f"duplicate frame {one_case(duplicate)}; list each image once")
        for path in (self.sparse_points, self.lidar_points, *(sweep.path for sweep in self.lidar_sweeps)):
            if path is not None:
                check_relative(path)
        _check_geo_origin(self.geo_origin)

    def __len__(self) -> int:
        return len(self.frames)

    def cameras(self) -> Cameras:
        """Return the cameras of all frames, in order, in single precision.

        Raises:
            CaptureError: single precision would round coordinates by more than 1/10,000 of the capture's extent.
        """
        _check_precision(self)
        if isinstance(self.frames, FrameTable):
            poses, lenses, lens_of_frame = self.frames.poses, self.frames.lenses, self.frames.lens_of_frame
        else:
            poses = np.array([frame.camera_to_world for frame in self.frames])
            lenses, lens_of_frame = tuple(frame.intrinsics for frame in self.frames), np.arange(len(self))
        index = torch.from_numpy(lens_of_frame)
        return Cameras(
            camera_to_world=torch.from_numpy(poses).float(),
            intrinsics=torch.tensor([(lens.fx, lens.fy, lens.cx, lens.cy) for lens in lenses])[index],
            distortion=torch.tensor([lens.distortion for lens in lenses])[index],
            model=torch.tensor([int(lens.model) for lens in lenses])[index],
            width=torch.tensor([lens.width for lens in lenses])[index],
            height=torch.tensor([lens.height for lens in lenses])[index],
        )

    def column(self, key: str) -> list[Any]:
        """Return one field of all frames; for a table of frames, without making them."""
        if isinstance(self.frames, FrameTable):
            return self.frames.column(key)
        return [getattr(frame, key) for frame in self.frames]

    @property
    def centers(self) -> Float64[np.ndarray, "frames 3"]:
        """Camera centers in the world, in double precision."""
        if isinstance(self.frames, FrameTable):
            return self.frames.poses[:, :, 3]
        return np.array([frame.center for frame in self.frames])

    def name(self, index: int) -> str:
        """Return the name of a frame, without making it if the frames are a table."""
        return self.frames.name(index) if isinstance(self.frames, FrameTable) else self.frames[index].name

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the names of some frames."""
        if isinstance(self.frames, FrameTable):
            return self.frames.names(indices)
        return [self.frames[index].name for index in indices]

    def index(self, name: str) -> int:
        """Return the index of the frame with this name.

        Raises:
            CaptureError: no frame has this name.
        """
        for i, frame in enumerate(self.frames):
            if frame.name == name:
                return i
        raise CaptureError(f"{self.image_dir}: no frame is named {name!r}; names are as in capture.json")

    def select(self, indices: Sequence[int]) -> "Capture":
        """Return the capture with only these frames, in this order.

        Raises:
            CaptureError: an index is out of range, or `indices` is empty.
        """
        part = None if self.part is None else self.part.select(indices)
        return replace(self, frames=tuple(self._frame(i) for i in indices), part=part)

    @property
    def extent(self) -> float:
        """Half the diagonal of the bounding box of the camera centers, of the whole capture; 1 if they coincide."""
        if self.part is not None:
            return self.part.facts.extent
        half_diagonal = float(np.linalg.norm(np.ptp(self.centers, axis=0)) / 2)
        return half_diagonal if half_diagonal > 1e-6 else 1.0

    @property
    def facts(self) -> CaptureFacts:
        """Figures of this capture; for a part of a capture, those of the whole."""
        if self.part is not None:
            return self.part.facts
        sizes = {lens.size for lens in self.column("intrinsics")}
        exposures = [exposure for exposure in self.column("exposure") if exposure is not None]
        return CaptureFacts(
            extent=self.extent,
            shortest_side=min(map(min, sizes)),
            longest_side=max(map(max, sizes)),
            exposure=median(exposures) if exposures else 1.0,
        )

    @property
    def segments(self) -> dict[str, list[int]]:
        """Frame indices of each segment, in the order of first appearance."""
        groups: dict[str, list[int]] = {}
        for i, segment in enumerate(self.column("segment")):
            groups.setdefault(segment, []).append(i)
        return groups

    def read_image(self, index: int, downscale: int = 1) -> UInt8[np.ndarray, "height width 3"]:
        """Return an image, area-averaged to floor(size / downscale); its camera is `scaled(1 / downscale)`.

        Raises:
            CaptureError: the image is missing or broken, its size is not the camera's, or the index is out of range.
        """
        frame = self._frame(index)
        return read_image(self.image_dir / frame.image, downscale, frame.intrinsics.size)

    def read_mask(self, index: int, downscale: int = 1) -> Bool[np.ndarray, "height width"] | None:
        """Return the mask of usable (static) pixels, or None if the frame has no mask.

        Raises:
            CaptureError: the file is missing, broken, or differs in size from the image.
        """
        frame = self._frame(index)
        return None if frame.mask is None else read_mask(self.mask_path(frame.mask), downscale, frame.intrinsics.size)

    def read_sky_mask(self, index: int, downscale: int = 1) -> Float[np.ndarray, "height width"] | None:
        """Return the sky coverage of each pixel, 0..1, or None if the frame has no sky mask.

        Raises:
            CaptureError: the file is missing, broken, or differs in size from the image.
        """
        frame = self._frame(index)
        return (
            None
            if frame.sky_mask is None
            else read_mask_coverage(self.mask_path(frame.sky_mask), downscale, frame.intrinsics.size)
        )

    def read_sparse_points(self) -> PointCloud | None:
        """Return the sparse points, or None if the capture has none."""
        return self._read_points(self.sparse_points)

    def read_lidar_points(self) -> PointCloud | None:
        """Return the lidar points, or None if the capture has none."""
        return self._read_points(self.lidar_points)

    def depth_points(self) -> PointCloud | None:
        """Return the points that measure depth: lidar points, else sparse points; None if there are none.

        LiDAR points are denser and more accurate than points from structure from motion.
        """
        if self.part is not None:
            return self.part.points
        return self.read_lidar_points() or self.read_sparse_points() or None

    def read_sweep(self, index: int) -> PointCloud | None:
        """Return the LiDAR sweep nearest in time to a frame, in the world; None if none is near.

        Raises:
            CaptureError: the file is missing or broken, or the index is out of range.
        """
        sweep = nearest_sweep(self.lidar_sweeps, self._frame(index).timestamp)
        return None if sweep is None else read_sweep(self.points_path(sweep.path)).transformed(sweep.sensor_to_world)

    def mask_path(self, mask: str) -> Path:
        """Return the file of a mask or sky mask."""
        return (self.mask_dir or self.image_dir) / mask

    def points_path(self, points: str) -> Path:
        """Return the file of a point cloud or LiDAR sweep."""
        return (self.points_dir or self.image_dir) / points

    def _read_points(self, path: str | None) -> PointCloud | None:
        transform = None if self.source_to_world == IDENTITY else self.source_to_world
        return None if path is None else read_ply(self.points_path(path), transform)

    def _frame(self, index: int) -> Frame:
        if not 0 <= index < len(self.frames):
            raise CaptureError(
                f"{self.image_dir}: frame index {index} is out of range; give 0 to {len(self.frames) - 1}"
            )
        return self.frames[index]


def check_files(capture: Capture) -> None:
    """Raise if an image, mask or point file is missing, unreadable, or of the wrong size.

    Only the headers of images and point files are read.

    Raises:
        CaptureError: counts the missing images, or names the first file that cannot be used.
    """
    missing = [frame.image for frame in capture.frames if not (capture.image_dir / frame.image).exists()]
    if len(missing) > 1:
        names = ", ".join(map(one_case, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise CaptureError(
            f"{capture.image_dir}: {len(missing)} of {len(capture)} images do not exist: {names}; "
            "restore them or remove their frames"
        )
    for frame in capture.frames:
        for path in image_files(capture, frame):
            check_size(path, image_size(path), frame.intrinsics.size)
    for points in (capture.sparse_points, capture.lidar_points):
        if points is not None:
            check_ply(capture.points_path(points))
    for sweep in capture.lidar_sweeps:
        check_sweep(capture.points_path(sweep.path))


def image_files(capture: Capture, frame: Frame) -> list[Path]:
    """Return the image of a frame and its masks."""
    masks = [capture.mask_path(mask) for mask in (frame.mask, frame.sky_mask) if mask is not None]
    return [capture.image_dir / frame.image, *masks]


def _first_repeated(names: Sequence[str]) -> str | None:
    visited: set[str] = set()
    for name in names:
        if name in visited:
            return name
        visited.add(name)
    return None


def _check_geo_origin(origin: tuple[float, float, float] | None) -> None:
    """Raise if the latitude, longitude or altitude is out of range."""
    for name, number, limit in zip(("latitude", "longitude", "altitude"), origin or (), (90, 360, 1e5), strict=False):
        if finite(number, limit) is None:
            raise CaptureError(f"geographic origin: {name} {number:g} is not from -{limit:g} to {limit:g}; correct it")


def _check_precision(capture: Capture) -> None:
    """Raise if single precision would round coordinates by more than 1/10,000 of the capture's extent."""
    farthest = float(np.abs(capture.centers).max())
    step = farthest * float(np.finfo(np.float32).eps)
    if farthest > 1e4 and step > 1e-4 * capture.extent:
        raise CaptureError(
            f"cameras are {farthest:.3g} from the world's origin, which rounds them by {step:.2g};"
            " subtract an offset from all poses and points"
        )
