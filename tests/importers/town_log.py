"""A short drive through the sample town with exact poses, exposures, masks and points, for writers of log layouts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from blocknerf.capture.points import read_ply
from blocknerf.images import read_image, read_mask
from blocknerf.town.traffic import positions
from blocknerf.town.views import SampleSpec, plan_views

TOWN = Path(__file__).parents[2] / "data_samples" / "mini_city"
CAMERAS = ("left", "forward", "right")
POSITIONS = (14, 15, 16)
"""Positions of the first drive in which a car passes close to the vehicle."""
START = 1_500_000_000.0
"""Time of the drive, seconds since 1970."""
CAR_SIZE = (4.34, 1.84, 1.44)
"""Length, width and height of the town's cars with their wheels (m)."""
FOCAL = SampleSpec().focal
WIDTH, HEIGHT = SampleSpec().width, SampleSpec().height
LIDAR_IN_VEHICLE = np.array([[0.0, -1.0, 0.0, 0.9], [1.0, 0.0, 0.0, 0.05], [0.0, 0.0, 1.0, 1.8], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """Everything at one moment of the drive; poses are 4x4 to the world (m, z up)."""

    timestamp: float
    cameras: dict[str, np.ndarray]
    """Poses with OpenCV axes."""
    images: dict[str, Path]
    exposures: dict[str, float]
    moving: dict[str, np.ndarray]
    """Which pixels show a moving car, dilated by a pixel."""
    cars: list[np.ndarray]
    """Poses of the moving cars' centers, x along the car."""
    points: np.ndarray
    """Points that the LiDAR measures, in the world."""

    @property
    def vehicle(self) -> np.ndarray:
        """Pose of the vehicle's origin: x forward, y left, z up, under the forward camera."""
        forward = self.cameras["forward"]
        heading = np.arctan2(forward[1, 2], forward[0, 2])
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", (0.01, -0.02, heading + 0.003)).as_matrix()
        pose[:3, 3] = forward[:3, 3] - (0.4, 0.1, 1.9)
        return pose

    @property
    def lidar(self) -> np.ndarray:
        """Pose of the LiDAR."""
        return self.vehicle @ LIDAR_IN_VEHICLE

    def image(self, camera: str) -> np.ndarray:
        return read_image(self.images[camera])


def town_moments() -> list[Moment]:
    """Return three moments of the sample town's first drive."""
    all_views = plan_views(SampleSpec())
    views = {view.name: view for view in all_views}
    cloud = read_ply(TOWN / "points3D.ply").positions.astype(np.float64)
    return [
        _moment([views[f"drive0_noon_{position:03d}_{camera}"] for camera in CAMERAS], cloud) for position in POSITIONS
    ]


def _moment(views: list, cloud: np.ndarray) -> Moment:
    poses = {view.camera: np.vstack([view.pose, (0, 0, 0, 1)]) for view in views}
    near = np.linalg.norm(cloud - poses["forward"][:3, 3], axis=1) < 25.0
    files = {view.camera: TOWN / "masks" / f"{view.name}.png" for view in views}
    return Moment(
        timestamp=START + round(views[0].seconds, 4),
        cameras=poses,
        images={view.camera: TOWN / "images" / f"{view.name}.jpg" for view in views},
        exposures={view.camera: view.exposure for view in views},
        moving={
            camera: ~read_mask(file) if file.is_file() else np.zeros((HEIGHT, WIDTH), np.bool_)
            for camera, file in files.items()
        },
        cars=[_car(x, y, heading) for x, y, heading in positions(views[0].drive, views[0].seconds)],
        points=cloud[near],
    )


def _car(x: float, y: float, heading: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", heading, degrees=True).as_matrix()
    pose[:3, 3] = x, y, CAR_SIZE[2] / 2
    return pose
