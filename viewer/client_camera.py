"""Where a visitor stands, as a camera that can be rendered."""

import math
from dataclasses import dataclass

import torch
from scipy.spatial.transform import Rotation

from blocknerf.cameras import Cameras

MAX_SIZE = 4096
"""Pixels along a side that no wish exceeds, whatever a page says of itself."""
LOOK_AT_DISTANCE = 5.0
"""World units from a visitor to the point around which they turn, when they are put somewhere."""
NARROWEST, WIDEST = math.radians(5.0), math.radians(150.0)


def clamp_finite(value: float, low: float, high: float) -> float:
    """A number that a page sent, within bounds; the lower one where it is none.

    >>> clamp_finite(7.0, 0.0, 1.0), clamp_finite(float("nan"), 0.5, 1.0)
    (1.0, 0.5)
    """
    return min(max(float(value), low), high) if math.isfinite(value) else low


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCamera:
    """A place and a direction, as the page tells them."""

    position: tuple[float, float, float]
    """In world units."""
    wxyz: tuple[float, float, float, float]
    """The turn from camera to world, a unit quaternion; camera axes are OpenCV's."""
    fov: float
    """Angle of view from top to bottom, in radians."""
    width: int
    """Of the page's canvas, in pixels."""
    height: int

    def camera(self, budget: int) -> Cameras | None:
        """The view, at most `budget` pixels high and twice as wide; None where a page says what no camera can be."""
        numbers = (*self.position, *self.wxyz, self.fov)
        if not all(math.isfinite(number) for number in numbers) or math.hypot(*self.wxyz) < 1e-6:
            return None
        canvas_width, canvas_height = (clamp_finite(side, 1, MAX_SIZE) for side in (self.width, self.height))
        shrink = min(1.0, budget / canvas_height, 2 * budget / canvas_width)
        width, height = (max(1, round(side * shrink)) for side in (canvas_width, canvas_height))
        w, x, y, z = self.wxyz
        turn = torch.from_numpy(Rotation.from_quat((x, y, z, w)).as_matrix()).float()
        pose = torch.cat([turn, torch.tensor(self.position)[:, None]], 1)
        fov = clamp_finite(self.fov, NARROWEST, WIDEST)
        return Cameras.pinhole(pose[None], focal=height / (2.0 * math.tan(fov / 2.0)), width=width, height=height)


def quaternion(camera: Cameras) -> tuple[float, float, float, float]:
    """The turn of one camera, in the order w, x, y, z."""
    x, y, z, w = Rotation.from_matrix(camera.camera_to_world[0, :, :3].double().numpy()).as_quat().tolist()
    return w, x, y, z


def field_of_view(camera: Cameras) -> float:
    """The angle of view from top to bottom of one camera without distortion, in radians."""
    return 2.0 * math.atan(float(camera.height[0]) / (2.0 * float(camera.intrinsics[0, 1])))
