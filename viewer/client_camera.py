"""The camera of a client's page, converted to one that can be rendered."""

import math
from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import Cameras

MAX_SIZE = 4096
"""Largest side of a rendering, in pixels, whatever canvas size a page reports."""
LOOK_AT_DISTANCE = 5.0
"""World units from a camera that the viewer sets to the point it orbits around."""
MIN_FOV, MAX_FOV = math.radians(5.0), math.radians(150.0)


def clamp_finite(value: float, low: float, high: float) -> float:
    """Clamp a number that a page sent; return `low` if it is not finite.

    >>> clamp_finite(7.0, 0.0, 1.0), clamp_finite(float("nan"), 0.5, 1.0)
    (1.0, 0.5)
    """
    return min(max(float(value), low), high) if math.isfinite(value) else low


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCamera:
    """Camera pose and canvas size, as the page reports them."""

    position: tuple[float, float, float]
    """In world units."""
    wxyz: tuple[float, float, float, float]
    """Rotation from camera to world, a unit quaternion; OpenCV camera axes."""
    fov: float
    """Vertical field of view, in radians."""
    width: int
    """Width of the page's canvas, in pixels."""
    height: int

    def camera(self, max_height: int) -> Cameras | None:
        """Return the camera, at most `max_height` pixels high and twice as wide; None if a value is invalid."""
        numbers = (*self.position, *self.wxyz, self.fov)
        if not all(math.isfinite(number) for number in numbers) or math.hypot(*self.wxyz) < 1e-6:
            return None
        canvas_width, canvas_height = (clamp_finite(side, 1, MAX_SIZE) for side in (self.width, self.height))
        scale = min(1.0, max_height / canvas_height, 2 * max_height / canvas_width)
        width, height = (max(1, round(side * scale)) for side in (canvas_width, canvas_height))
        w, x, y, z = self.wxyz
        rotation = torch.from_numpy(Rotation.from_quat((x, y, z, w)).as_matrix()).float()
        pose = torch.cat([rotation, torch.tensor(self.position)[:, None]], 1)
        fov = clamp_finite(self.fov, MIN_FOV, MAX_FOV)
        return Cameras.pinhole(pose[None], focal=height / (2.0 * math.tan(fov / 2.0)), width=width, height=height)


def quaternion(camera: Cameras) -> tuple[float, float, float, float]:
    """Return the camera-to-world rotation of one camera as a quaternion (w, x, y, z)."""
    x, y, z, w = Rotation.from_matrix(camera.camera_to_world[0, :, :3].double().numpy()).as_quat().tolist()
    return w, x, y, z


def field_of_view(camera: Cameras) -> float:
    """Return the vertical field of view of one camera without distortion, in radians."""
    return 2.0 * math.atan(float(camera.height[0]) / (2.0 * float(camera.intrinsics[0, 1])))
